//! Nodes that are told of nobody and find each other by multicast.

use super::switch::Passing;
use super::*;

/// Of a test whose outcome is a matter of moments.
const ROUNDS: usize = 4;
const DISCOVER: &str = "group.discover=true";

#[test]
fn nodes_on_one_link_find_each_other() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    let all = [a, b, c];
    std::thread::scope(|scope| {
        for machine in all {
            scope.spawn(|| machine.start("0.0.0.0:8676", &[], &[DISCOVER]));
        }
    });
    println!("found within {:?}", wait_for_group(&all));
    assert_eq!(a.ask("create f"), "Done");
    for machine in all {
        wait_for_filter(machine, "f");
    }
    b.stop();
    b.start(&b.over_v4(), &[], &[DISCOVER]);
    wait_for_group(&all);
}

/// Each pair of new nodes could become a group of its own, which stay apart for ever.
#[test]
fn nodes_started_at_one_moment_are_one_group() {
    for _ in 0..ROUNDS {
        let lab = Lab::new(["a", "b", "c", "d", "e"]);
        let all: Vec<&Machine> = lab.machines.iter().collect();
        std::thread::scope(|scope| {
            for machine in &all {
                scope.spawn(|| machine.start("0.0.0.0:8676", &[], &[DISCOVER]));
            }
        });
        println!("five are one group within {:?}", wait_for_group(&all));
    }
}

/// A call to somebody that was found may be lost; nobody names it a second time.
#[test]
fn somebody_found_who_cannot_be_reached_is_called_again() {
    let lab = Lab::new(["a", "b"]);
    let [a, b] = &lab.machines;
    lab.everywhere(|line| line.passing = Passing::Answers);
    for machine in [a, b] {
        machine.start(&machine.over_v4(), &[], &[DISCOVER]);
    }
    for machine in [a, b] {
        within(DEADLINE, "the other to be found", || {
            machine.log().contains("discovered peer on address")
        });
    }
    // Longer than a call lasts.
    go_on_for(Duration::from_secs(12));
    assert_eq!((a.connected(), b.connected()), (0, 0));
    lab.heal();
    println!("met {:?} after the first chance", wait_for_group(&[a, b]));
}
