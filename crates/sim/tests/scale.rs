//! What a group costs by its size: light data comes to the counts of whole stores, and nothing
//! grows faster than it must.

use std::time::Duration;

use grapevine_core::sync::limits::REPORTS_PER_PERIOD_MAX;
use grapevine_sim::scale::{Convergence, Data, Gauges, Kind, Light, Plan, Report, Whole, run};

fn report<D: Data>(nodes: usize, loss: u64) -> Report {
    let plan = Plan {
        seed: 3,
        nodes,
        loss,
        seconds: 4,
        rate: 20,
        burst: 50,
    };
    let gauges = Gauges {
        processor: || Duration::ZERO,
        allocated: || 0,
    };
    run::<D>(&plan, gauges).unwrap()
}

#[test]
fn light_data_comes_to_the_counts_of_whole_stores() {
    for nodes in [3, 10] {
        let (light, whole) = (report::<Light>(nodes, 0), report::<Whole>(nodes, 0));
        for (light, whole) in [
            (&light.idle, &whole.idle),
            (&light.steady, &whole.steady),
            (&light.bursts, &whole.bursts),
        ] {
            assert_eq!(light.operations, whole.operations);
            assert!(light.traffic.kinds.keys().eq(whole.traffic.kinds.keys()));
            for (kind, (messages, bytes)) in &light.traffic.kinds {
                let (as_many, of) = whole.traffic.kinds[kind];
                assert_eq!(*messages, as_many, "{kind:?}");
                // How two hashes begin is chance, and written in few bytes.
                assert!(
                    bytes.abs_diff(of) * 50 <= of,
                    "{kind:?}: {bytes} and {of} bytes"
                );
            }
            assert_eq!(light.convergence.times, whole.convergence.times);
        }
    }
}

#[test]
fn everything_arrives_everywhere_in_one_transfer_or_else_in_seconds() {
    let calm = report::<Light>(12, 0).steady.convergence;
    assert_eq!(calm.times.len(), 80);
    assert_eq!(Convergence::quantile(&calm.rounds, 1.0), 1);
    assert!(Convergence::quantile(&calm.times, 1.0) <= 20, "{calm:?}");
    let lossy = report::<Light>(12, 5).steady.convergence;
    assert_eq!(lossy.times.len(), 80);
    assert!(
        Convergence::quantile(&lossy.times, 1.0) > 20,
        "nothing was lost"
    );
    assert!(
        Convergence::quantile(&lossy.times, 1.0) < 10_000,
        "{lossy:?}"
    );
}

#[test]
fn idle_nodes_say_a_hash_each_second_to_a_bounded_number_of_peers() {
    for nodes in [10, 66] {
        let idle = report::<Light>(nodes, 0).idle;
        let peers = nodes - 1;
        let each_second = peers.div_ceil(peers.div_ceil(REPORTS_PER_PERIOD_MAX)) as u64;
        let (messages, bytes) = idle.traffic.all();
        assert_eq!(idle.traffic.of(Kind::Summary), (messages, bytes));
        let most = 4 * nodes as u64 * each_second;
        assert!(messages <= most + most / 4, "{messages} of {most}");
        assert!(messages >= most * 3 / 4, "{messages} of {most}");
        assert_eq!(bytes, 47 * messages);
    }
}

#[test]
fn a_change_is_told_with_what_changed_and_not_with_everything() {
    let nodes = 40;
    let report = report::<Light>(nodes, 0);
    let bursts = report.bursts;
    let (_, whole) = bursts.traffic.of(Kind::Range);
    let (count, bytes) = bursts.traffic.of(Kind::News);
    assert_eq!(whole, 0);
    assert!(count > 0);
    // One origin writes each second: far from forty entries of 28 bytes.
    assert!(
        bytes / count < 47 + 4 * 28,
        "{bytes} bytes in {count} reports"
    );
}
