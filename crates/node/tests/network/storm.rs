//! A group in bad weather: loss, delay, doubles, kills, a partition, one-way cuts, under load.

use super::switch::{Line, Passing};
use super::*;

/// A quarter of all frames lost, the rest late, out of order, some twice.
const BAD: Line = Line {
    passing: Passing::Everything,
    loss: 0.25,
    doubled: 0.05,
    delay: Duration::from_millis(20),
    jitter: Duration::from_millis(20),
};
/// Between two requests of a writer.
const PACE: Duration = Duration::from_millis(10);
const PHASE: Duration = Duration::from_secs(5);

#[test]
fn nothing_acknowledged_is_lost_in_a_storm() {
    let lab = Lab::new(["a", "b", "c", "d"]);
    let [a, b, c, d] = &lab.machines;
    let all = [a, b, c, d];
    lab.everywhere(|line| *line = BAD);
    // IPv4 and IPv6 only, and both.
    let start = |machine: &Machine| match machine.name {
        "a" => machine.start(&a.over_v4(), &[&b.over_v6(), &c.over_v4()], &[]),
        "b" => machine.start(&b.over_v6(), &[&a.over_v4()], &[]),
        "c" => machine.start("0.0.0.0:8676", &[&b.over_v6()], &[]),
        _ => machine.start("[::]:8676", &[&c.over_v4(), &b.over_v6()], &[]),
    };
    // A group begins around one node: pairs of new ones that meet each other first would be two.
    let begun = Instant::now();
    for (count, machine) in (1..).zip(all) {
        start(machine);
        wait_for_group(&all[..count]);
    }
    let formed = begun.elapsed();
    println!("four nodes are a group after {formed:?} of bad weather");
    assert_eq!(a.ask("create f capacity=20000 prob=0.0001"), "Done");
    all.iter().for_each(|machine| wait_for_filter(machine, "f"));

    let ledger = Ledger::new("f");
    ledger.while_written(&all, PACE, || {
        for (killed, after) in [(c, 700), (d, 1900), (c, 1300)] {
            go_on_for(Duration::from_millis(after));
            killed.kill();
            start(killed);
        }
        println!("{} keys; a and b are cut from c and d", ledger.len());
        lab.split(&[a, b]);
        go_on_for(PHASE);
        b.kill();
        start(b);
        go_on_for(PHASE);
        lab.split(&[]);
        println!("{} keys; a hears nobody, nobody hears d", ledger.len());
        for other in [b, c, d] {
            lab.pass(other, a, Passing::Nothing);
        }
        for other in [a, b, c] {
            lab.pass(d, other, Passing::Nothing);
        }
        go_on_for(PHASE);
    });
    lab.heal();
    let together = wait_for_group(&all);
    let keys = wait_for_keys(&ledger, &all);
    println!(
        "{} acknowledged keys on all nodes, {together:?} and {keys:?} after the storm",
        ledger.len()
    );
    assert!(ledger.len() > 2000, "the load was no load");
    let counts = lab.switch.counts();
    // How many frames there are depends on the machine.
    assert!(counts.lost > 100 && counts.doubled > 10 && counts.stopped > 10);
}
