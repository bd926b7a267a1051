//! Who cannot reach whom: nodes that can only call, networks without UDP, and two members that
//! never hear each other.

use super::switch::Passing;
use super::*;

/// Sets keys on each machine and waits until all have them.
fn pass_keys_around(machines: &[&Machine], time: &str) {
    let ledger = Ledger::new("f");
    for machine in machines {
        wait_for_filter(machine, "f");
        let keys: Vec<String> = (ledger.len()..ledger.len() + 100)
            .map(|number| format!("{time}-{}-{number}", machine.name))
            .collect();
        let answer = machine.ask(&format!("b f {}", keys.join(" ")));
        assert_eq!(answer, vec!["Yes"; keys.len()].join(" "));
        ledger.enter(keys);
    }
    wait_for_keys(&ledger, machines);
}

#[test]
fn a_node_that_can_only_call_takes_part_fully() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    a.start(&a.over_v4(), &[], &[]);
    b.start(&b.over_v4(), &[&a.over_v4()], &[]);
    // Nobody else is on its loopback.
    let loopback = "127.0.0.1:8676";
    c.start(loopback, &[&a.over_v4()], &[]);
    wait_for_group(&[a, b, c]);
    assert_eq!(c.ask("create f"), "Done");
    pass_keys_around(&[a, b, c], "at-first");
    a.kill();
    a.start(&a.over_v4(), &[], &[]);
    println!(
        "back in step {:?} after a's restart",
        wait_for_group(&[a, b, c])
    );
    pass_keys_around(&[a, b, c], "later");
    c.kill();
    c.start(loopback, &[], &[]);
    println!(
        "back in step {:?} after c's restart",
        wait_for_group(&[a, b, c])
    );
}

#[test]
fn a_firewall_that_lets_only_answers_in_and_no_udp_out_is_no_obstacle() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    for other in [a, b] {
        lab.pass(other, c, Passing::Answers);
        lab.pass(c, other, Passing::NoDatagrams);
    }
    a.start(&a.over_v4(), &[], &[]);
    b.start(&b.over_v4(), &[&a.over_v4()], &[]);
    c.start(&c.over_v4(), &[&a.over_v4()], &[]);
    wait_for_group(&[a, b, c]);
    assert_eq!(a.ask("create f"), "Done");
    pass_keys_around(&[a, b, c], "at-first");
    a.kill();
    a.start(&a.over_v4(), &[], &[]);
    wait_for_group(&[a, b, c]);
    assert!(lab.switch.counts().stopped > 0, "nothing was in the way");
}

#[test]
fn two_that_never_hear_each_other_have_all_through_a_third() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    lab.pass(b, c, Passing::Nothing);
    lab.pass(c, b, Passing::Nothing);
    a.start(&a.over_v4(), &[], &[]);
    b.start(&b.over_v4(), &[&a.over_v4()], &[]);
    c.start(&c.over_v4(), &[&a.over_v4()], &[]);
    within(DEADLINE, "both to be connected to a", || a.is_in_step(2));
    assert_eq!(b.ask("create f"), "Done");
    pass_keys_around(&[a, b, c], "at-first");
    assert_eq!((b.connected(), c.connected()), (1, 1));
    lab.heal();
    wait_for_group(&[a, b, c]);
}
