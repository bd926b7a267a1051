//! Rights to insert, spent by whole nodes at full speed: no layer is overfilled, wherever the cut is.

use super::switch::Passing;
use super::*;

/// Of the first layer: the least that bloomd's clients may ask for.
const CAPACITY: usize = 10_001;
/// How long one of the nodes is cut off, and how long it is not.
const SPELL: Duration = Duration::from_millis(1500);
const SPELLS: usize = 3;

#[test]
fn no_layer_holds_more_keys_than_it_may() {
    let lab = Lab::new(["a", "b", "c"]);
    let [a, b, c] = &lab.machines;
    let all = [a, b, c];
    a.start(&a.over_v4(), &[], &[]);
    for other in [b, c] {
        other.start(&other.over_v4(), &[&a.over_v4()], &[]);
    }
    wait_for_group(&all);
    assert_eq!(
        a.ask(&format!("create f capacity={CAPACITY} prob=0.001")),
        "Done"
    );
    for machine in all {
        wait_for_filter(machine, "f");
    }
    let ledger = Ledger::new("f");
    ledger.while_written(&all, Duration::ZERO, || {
        for _ in 0..SPELLS {
            lab.isolate(c, Passing::Nothing);
            go_on_for(SPELL);
            lab.isolate(c, Passing::Everything);
            go_on_for(SPELL);
        }
    });
    wait_for_group(&all);
    wait_for_keys(&ledger, &all);
    let mut same = Vec::new();
    for machine in all {
        let filter = machine.json("/api/v1/filters/f");
        let layers = filter["layer_list"].as_array().expect("layers");
        let number = |layer: &serde_json::Value, key: &str| layer[key].as_u64().expect("a number");
        for layer in layers {
            let (inserted, capacity) = (number(layer, "inserted"), number(layer, "capacity"));
            assert!(inserted <= capacity, "{}: {layer}", machine.name);
        }
        let inserted: u64 = layers.iter().map(|layer| number(layer, "inserted")).sum();
        // Each key is set on one node only.
        assert!(
            inserted <= ledger.len() as u64,
            "{inserted} of {}",
            ledger.len()
        );
        same.push((layers.len(), inserted));
    }
    println!("{} keys, layers and inserts: {same:?}", ledger.len());
    assert!(same[0].0 > 2, "hardly a layer was opened");
    assert!(same.iter().all(|one| *one == same[0]), "{same:?}");
}
