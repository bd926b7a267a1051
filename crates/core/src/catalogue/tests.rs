use super::*;
use crate::filter::parameters::Growth;
use crate::operation::Name;
use proptest::prelude::*;

fn dot(origin: u8, sequence: u64) -> Dot {
    Dot {
        origin: Origin::new([origin; 16]),
        sequence,
    }
}

fn row(id: u8, name: &str, created: Dot) -> FilterRow {
    FilterRow {
        id: FilterId::new([id; 16]),
        created,
        scope: Scope::Group,
        name: name.as_bytes().to_vec(),
        parameters: Parameters {
            capacity: 10,
            error: 0.01,
            growth: Growth::By(2),
        },
        seed: Seed::new([0; 16]),
        storage: Storage::Durable,
        layers: vec![],
        legacy: vec![],
        other: BTreeMap::new(),
    }
}

fn layer(of: &FilterRow, creator: u8, opened: Dot) -> LayerRow {
    let shape = of.parameters.layer(1, Origin::new([creator; 16]), 2);
    LayerRow {
        shape: shape.unwrap(),
        opened,
    }
}

#[test]
fn a_drop_ends_the_epoch_it_saw_and_no_other() {
    let mut catalogue = Catalogue::default();
    let (first, second) = (row(1, "a", dot(1, 1)), row(2, "a", dot(1, 3)));
    assert!(catalogue.apply(&CatalogueChange::Create(first.clone())));
    assert!(!catalogue.apply(&CatalogueChange::Create(first.clone())));
    assert!(catalogue.apply(&CatalogueChange::Drop(first.epoch())));
    assert!(catalogue.apply(&CatalogueChange::Create(second.clone())));
    assert!(!catalogue.apply(&CatalogueChange::Drop(first.epoch())));
    assert_eq!(catalogue.named(b"a"), [&second]);
}

#[test]
fn filters_of_one_name_stand_together_and_the_nodes_own_comes_first() {
    let mut catalogue = Catalogue::default();
    let (first, second) = (row(1, "a", dot(1, 1)), row(2, "a", dot(2, 1)));
    let own = FilterRow {
        scope: Scope::Local,
        ..row(3, "a", dot(1, 2))
    };
    for row in [&second, &own, &first] {
        assert!(catalogue.apply(&CatalogueChange::Create(row.clone())));
    }
    assert_eq!(catalogue.named(b"a"), [&own, &first, &second]);
    catalogue.apply(&CatalogueChange::Drop(own.epoch()));
    catalogue.apply(&CatalogueChange::Drop(first.epoch()));
    assert_eq!(catalogue.named(b"a"), [&second]);
}

#[test]
fn changes_have_no_effect_twice() {
    let first = row(1, "a", dot(1, 1));
    let mut catalogue = Catalogue::from_rows([first.clone()], []);
    let name = Name {
        name: b"a".to_vec(),
    };
    for change in [
        CatalogueChange::OpenLayer(first.epoch(), layer(&first, 1, dot(1, 2))),
        CatalogueChange::Hide(name.clone()),
        CatalogueChange::Show(name.clone()),
        CatalogueChange::Hide(name),
        CatalogueChange::Drop(first.epoch()),
    ] {
        assert!(catalogue.apply(&change), "{change:?}");
        assert!(!catalogue.apply(&change), "{change:?}");
    }
    assert_eq!(catalogue, Catalogue::default());
}

#[test]
fn names_are_bounded_and_fit_a_line() {
    assert_eq!(validate_name(&[b'x'; 200]), Ok(()));
    assert_eq!(validate_name(&[b'x'; 201]), Err(NameError::Length(201)));
    assert_eq!(validate_name(b""), Err(NameError::Length(0)));
    assert_eq!(validate_name(b"a b"), Err(NameError::Byte(1)));
    assert_eq!(validate_name(b"../\xe9\0:"), Ok(()));
}

/// A copy with the operations it has, and all operations ever made.
#[derive(Clone, Default)]
struct Copy {
    catalogue: Catalogue,
    version: VersionVector,
}

impl Copy {
    fn make(&mut self, origin: u8, change: impl FnOnce(Dot) -> CatalogueChange) -> CatalogueChange {
        let me = Origin::new([origin; 16]);
        let next = dot(origin, self.version.get(me) + 1);
        let change = change(next);
        self.catalogue.apply(&change);
        self.version.advance(me, next.sequence);
        change
    }

    /// Takes a snapshot of another copy over, page by page.
    fn take_over(&mut self, other: &Copy, page: usize) {
        let rows: Vec<FilterRow> = other.catalogue.rows().cloned().collect();
        for rows in rows.chunks(page) {
            for change in self.catalogue.reconcile(rows, &self.version) {
                assert!(self.catalogue.apply(&change), "{change:?}");
            }
        }
        let named = rows.iter().map(|row| row.id).collect();
        let unnamed = self.catalogue.unnamed(&other.version, &named);
        let dropped: Vec<Epoch> = unnamed.into_iter().map(FilterRow::epoch).collect();
        for epoch in dropped {
            self.catalogue.apply(&CatalogueChange::Drop(epoch));
        }
        self.version.merge(&other.version);
    }
}

#[derive(Clone, Debug)]
enum Step {
    Create(usize, u8),
    Drop(usize, u8),
    Layer(usize, u8),
    TakeOver(usize, usize, usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..3usize, 0..3u8).prop_map(|(at, name)| Step::Create(at, name)),
        (0..3usize, 0..3u8).prop_map(|(at, name)| Step::Drop(at, name)),
        (0..3usize, 0..3u8).prop_map(|(at, name)| Step::Layer(at, name)),
        (0..3usize, 0..3usize, 1..4usize).prop_map(|(a, b, page)| Step::TakeOver(a, b, page)),
    ]
}

proptest! {
    /// Whatever was made and dropped where, copies that took over each other's state are equal,
    /// and what was dropped by somebody who had seen it stays dropped.
    #[test]
    fn copies_that_took_over_each_other_are_equal(steps in prop::collection::vec(step(), 0..40)) {
        let mut copies = vec![Copy::default(); 3];
        let mut dropped = BTreeSet::new();
        let mut ids = 0..=255u8;
        for step in steps {
            match step {
                Step::Create(at, name) => {
                    let id = ids.next().unwrap();
                    let name = format!("f{name}");
                    copies[at].make(at as u8 + 1, |dot| CatalogueChange::Create(row(id, &name, dot)));
                }
                Step::Drop(at, name) => {
                    let rows = copies[at].catalogue.named(format!("f{name}").as_bytes());
                    let epochs: Vec<Epoch> = rows.iter().map(|row| row.epoch()).collect();
                    for epoch in epochs {
                        dropped.insert(epoch.filter);
                        copies[at].make(at as u8 + 1, |_| CatalogueChange::Drop(epoch));
                    }
                }
                Step::Layer(at, name) => {
                    let found = copies[at].catalogue.named(format!("f{name}").as_bytes());
                    let Some(found) = found.first().map(|row| (*row).clone()) else { continue };
                    copies[at].make(at as u8 + 1, |dot| {
                        CatalogueChange::OpenLayer(found.epoch(), layer(&found, at as u8 + 1, dot))
                    });
                }
                Step::TakeOver(a, b, page) => {
                    let from = copies[b].clone();
                    copies[a].take_over(&from, page);
                }
            }
        }
        for round in 0..2 {
            for (a, b) in [(0, 1), (1, 2), (2, 0), (1, 0)] {
                let from = copies[b].clone();
                copies[a].take_over(&from, 2 + round);
            }
        }
        prop_assert_eq!(&copies[0].catalogue, &copies[1].catalogue);
        prop_assert_eq!(&copies[0].catalogue, &copies[2].catalogue);
        for id in dropped {
            prop_assert!(copies[0].catalogue.row(id).is_none());
        }
    }
}
