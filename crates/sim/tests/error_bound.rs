//! The error of a filter whose copies grew apart, against its bound. How it is measured is told in
//! `docs/error-bound.md`.

use grapevine_core::filter::parameters::{Growth, Parameters};
use grapevine_sim::group::error_bound::{Cut, Measured, false_positives_max, measure};

const CAPACITY: u64 = 20_000;
const PROBES: u64 = 1_000_000;
/// The chance with which a filter that just meets its bound may be rejected.
const SIGNIFICANCE: f64 = 1e-6;

fn cut(error: f64, rights: bool) -> Measured {
    let parameters = Parameters {
        capacity: CAPACITY,
        error,
        growth: Growth::By(2),
    };
    let cut = Cut {
        seed: 1,
        nodes: 3,
        parameters,
        keys_per_node: 2 * CAPACITY,
        probes: PROBES,
        rights,
    };
    measure(&cut).unwrap()
}

#[test]
fn a_filter_cut_in_three_that_took_twice_its_capacity_on_each_side_keeps_its_error() {
    for error in [1e-2, 1e-3] {
        let measured = cut(error, true);
        let most = false_positives_max(PROBES, error, SIGNIFICANCE);
        for wrong in &measured.false_positives {
            assert!(
                *wrong <= most,
                "{error}: {wrong} of {PROBES}, {most} allowed"
            );
            // A filter that is never wrong was not asked.
            assert!(*wrong as f64 > PROBES as f64 * error / 10.0, "{measured:?}");
        }
        assert!(measured.keys > 6 * CAPACITY * 98 / 100, "{measured:?}");
        assert!(measured.fill_max <= 1.0, "{measured:?}");
        assert!(measured.snapshots > 0, "{measured:?}");
    }
}

#[test]
fn the_same_without_rights_is_wrong_far_more_often_than_it_promised() {
    for error in [1e-2, 1e-3] {
        let measured = cut(error, false);
        let most = false_positives_max(PROBES, error, SIGNIFICANCE);
        for wrong in &measured.false_positives {
            assert!(*wrong > 3 * most, "{error}: {wrong} of {PROBES}");
        }
        assert!(measured.fill_max > 2.5, "{measured:?}");
    }
}
