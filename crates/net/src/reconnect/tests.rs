use proptest::prelude::*;

use super::*;
use crate::Reason;

const ZERO: Duration = Duration::ZERO;

fn peer(byte: u8) -> PeerKey {
    PeerKey::from_bytes([byte; 32])
}

fn address(port: u16) -> Address {
    format!("node:{port}").parse().unwrap()
}

fn seeded(ports: &[u16]) -> Reconnect {
    let mut policy = Reconnect::default();
    let seeds = ports.iter().map(|port| address(*port)).collect();
    policy.set_seeds(&seeds, ZERO).unwrap();
    policy
}

/// An answer that will be the same for a while.
fn refusal() -> DialFailure {
    DialFailure::Told(Reason::OtherGroup.into())
}

/// Lets the next call fail; says when it was due and where it went.
fn fail_next(policy: &mut Reconnect, random: u64) -> (Duration, Address) {
    let now = policy.next_due().unwrap();
    let call = policy.next_call(now).unwrap();
    policy.over(&call.target, Some(DialFailure::NoAnswer), now, random);
    (now, call.address)
}

#[test]
fn a_seed_is_called_for_ever_at_growing_intervals() {
    let mut policy = seeded(&[1]);
    let times: Vec<Duration> = (0..40).map(|_| fail_next(&mut policy, 512).0).collect();
    let gaps: Vec<Duration> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(gaps[0], Duration::from_millis(500));
    assert_eq!(gaps[1], Duration::from_secs(1));
    assert_eq!(gaps[4], Duration::from_secs(8));
    assert!(gaps[5..].iter().all(|gap| *gap == DELAY_MAX));
}

#[test]
fn one_call_at_a_time_and_none_before_its_time() {
    let mut policy = seeded(&[1]);
    let call = policy.next_call(ZERO).unwrap();
    assert_eq!(policy.next_call(DELAY_REFUSED), None);
    assert_eq!(policy.next_due(), None);
    policy.over(&call.target, Some(DialFailure::NoAnswer), ZERO, 0);
    let due = policy.next_due().unwrap();
    assert_eq!(policy.next_call(due - Duration::from_millis(1)), None);
    assert!(policy.next_call(due).is_some());
}

#[test]
fn all_addresses_have_their_turn_before_the_interval_grows() {
    let mut policy = Reconnect::default();
    policy
        .want(peer(1), vec![address(1), address(2), address(3)], ZERO)
        .unwrap();
    let calls: Vec<_> = (0..6).map(|_| fail_next(&mut policy, 512)).collect();
    let called: Vec<_> = calls.iter().map(|(_, address)| address.clone()).collect();
    assert_eq!(called[..3], [address(1), address(2), address(3)]);
    assert_eq!(called[..3], called[3..]);
    assert_eq!(calls[3].0 - calls[2].0, Duration::from_millis(500));
    assert_eq!(calls[4].0 - calls[3].0, Duration::from_secs(1));
}

#[test]
fn a_connected_peer_is_not_called_whoever_called() {
    let mut policy = seeded(&[1]);
    policy.want(peer(1), vec![address(2)], ZERO).unwrap();
    // The seed turns out to be the same peer, which has called us meanwhile.
    let call = policy.next_call(ZERO).unwrap();
    let seed = Target::Seed(address(1));
    policy.reached(&seed, peer(1));
    policy.connected(peer(1));
    policy.over(&call.target, None, ZERO, 0);
    assert_eq!(policy.next_due(), None);
    policy.lost(peer(1), None, DELAY_MAX, 512);
    let due = policy.next_due().unwrap();
    assert_eq!(due, DELAY_MAX + DELAY_MIN);
    let both: BTreeSet<Target> = (0..2)
        .map(|_| policy.next_call(due).unwrap().target)
        .collect();
    assert_eq!(both, BTreeSet::from([seed, Target::Peer(peer(1))]));
}

#[test]
fn who_refused_is_called_slowly() {
    let mut policy = seeded(&[1]);
    let call = policy.next_call(ZERO).unwrap();
    policy.over(&call.target, Some(refusal()), ZERO, 512);
    assert_eq!(policy.next_due(), Some(DELAY_REFUSED));
    // One that admitted us and then said why not.
    let call = policy.next_call(DELAY_REFUSED).unwrap();
    policy.reached(&call.target, peer(1));
    policy.connected(peer(1));
    policy.over(&call.target, None, DELAY_REFUSED, 0);
    let told = CloseReason::Remote(Reason::OtherGroup.into());
    policy.lost(peer(1), Some(&told), DELAY_REFUSED, 512);
    assert_eq!(policy.next_due(), Some(2 * DELAY_REFUSED));
}

#[test]
fn who_refused_is_called_at_once_when_somebody_asks_for_it() {
    let mut policy = seeded(&[1]);
    let call = policy.next_call(ZERO).unwrap();
    policy.over(&call.target, Some(refusal()), ZERO, 512);
    policy.hurry(&address(2), ZERO);
    assert_eq!(policy.next_due(), Some(DELAY_REFUSED));
    policy.hurry(&address(1), DELAY_MIN);
    assert_eq!(policy.next_due(), Some(DELAY_MIN));
    // The session in which it refused ends only now.
    let told = CloseReason::Local(Reason::OtherGroup.into());
    policy.reached(&call.target, peer(1));
    policy.lost(peer(1), Some(&told), DELAY_MIN, 512);
    assert_eq!(policy.next_due(), Some(2 * DELAY_MIN));
}

#[test]
fn who_was_left_is_called_at_once_when_it_is_to_be_joined() {
    let mut policy = seeded(&[1]);
    let call = policy.next_call(ZERO).unwrap();
    policy.reached(&call.target, peer(1));
    policy.connected(peer(1));
    policy.over(&call.target, None, ZERO, 0);
    policy.set_seeds(&BTreeSet::new(), ZERO).unwrap();
    // The new call is made before the old session is known to be over.
    policy
        .set_seeds(&BTreeSet::from([address(1)]), ZERO)
        .unwrap();
    let call = policy.next_call(ZERO).unwrap();
    policy.reached(&call.target, peer(1));
    let left = CloseReason::Local(Reason::Left.into());
    policy.lost(peer(1), Some(&left), ZERO, 512);
    policy.over(&call.target, None, ZERO, 512);
    assert_eq!(policy.next_due(), Some(DELAY_MIN));
}

/// The one seed's attempts, last and next call, and trouble.
type Told = (u32, Option<Duration>, Option<Duration>, Option<String>);

fn told(policy: &mut Reconnect) -> Told {
    let news = policy.take_news().expect("news");
    assert!(policy.take_news().is_none(), "it is told once");
    let [seed] = &news[..] else {
        panic!("one seed: {news:?}")
    };
    assert_eq!(seed.address, address(1));
    let trouble = seed.trouble.as_ref().map(ToString::to_string);
    (seed.attempts, seed.last_attempt, seed.next_attempt, trouble)
}

#[test]
fn each_step_of_calling_a_seed_is_reported() {
    let mut policy = seeded(&[1]);
    let nobody = || Some("nobody answers".to_owned());
    assert_eq!(told(&mut policy), (0, None, Some(ZERO), None));
    let call = policy.next_call(ZERO).unwrap();
    assert_eq!(told(&mut policy), (0, Some(ZERO), None, None));
    policy.over(&call.target, Some(DialFailure::NoAnswer), ZERO, 512);
    assert_eq!(
        told(&mut policy),
        (1, Some(ZERO), Some(DELAY_MIN), nobody())
    );
    let call = policy.next_call(DELAY_MIN).unwrap();
    assert_eq!(told(&mut policy), (1, Some(DELAY_MIN), None, nobody()));
    policy.over(&call.target, Some(refusal()), DELAY_MIN, 512);
    let next = Some(DELAY_MIN + DELAY_REFUSED);
    let why = Some(refusal().to_string());
    assert_eq!(told(&mut policy), (2, Some(DELAY_MIN), next, why));
    // It is let in, and the session ends.
    let at = DELAY_REFUSED * 2;
    let call = policy.next_call(at).unwrap();
    policy.reached(&call.target, peer(1));
    policy.connected(peer(1));
    policy.over(&call.target, None, at, 0);
    assert!(policy.seeds()[0].connected);
    assert_eq!(told(&mut policy), (0, Some(at), None, None));
    policy.lost(peer(1), Some(&CloseReason::Silent), at * 2, 512);
    let seed = policy.seeds().remove(0);
    assert_eq!((seed.connected, seed.peer), (false, Some(peer(1))));
    assert_eq!(seed.since, at * 2);
    let why = Some("nothing was heard for too long".to_owned());
    assert_eq!(
        told(&mut policy),
        (0, Some(at), Some(at * 2 + DELAY_MIN), why)
    );
    // Members that are called by the table are no seeds.
    policy.want(peer(2), vec![address(2)], at).unwrap();
    assert_eq!(policy.seeds().len(), 1);
}

#[test]
fn new_addresses_are_called_at_once_and_old_ones_forgotten() {
    let mut policy = Reconnect::default();
    policy.want(peer(1), vec![address(1)], ZERO).unwrap();
    for _ in 0..5 {
        fail_next(&mut policy, 0);
    }
    let now = Duration::from_secs(1);
    policy.want(peer(1), vec![address(2)], now).unwrap();
    assert_eq!(fail_next(&mut policy, 0), (now, address(2)));
    policy.unwant(peer(1));
    assert_eq!(policy.next_due(), None);
    policy.set_seeds(&[address(1)].into(), now).unwrap();
    policy.set_seeds(&BTreeSet::new(), now).unwrap();
    assert_eq!(policy.next_due(), None);
}

#[test]
fn targets_are_bounded() {
    let mut policy = Reconnect::default();
    let many = (1..=65).map(address).collect();
    assert_eq!(policy.set_seeds(&many, ZERO), Err(TargetError::Seeds));
    for number in 0..WANTED_MAX {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&number.to_le_bytes());
        let addresses = (1..=20).map(address).collect();
        policy
            .want(PeerKey::from_bytes(key), addresses, ZERO)
            .unwrap();
    }
    let one_more = policy.want(peer(255), Vec::new(), ZERO);
    assert_eq!(one_more, Err(TargetError::Wanted));
    let longest = policy.targets.values().map(|state| state.addresses.len());
    assert_eq!(longest.max(), Some(ADDRESSES_MAX));
}

proptest! {
    #[test]
    fn no_target_starves_and_none_is_called_in_haste(
        ports in 1u16..6, randoms in prop::collection::vec(any::<u64>(), 60..200),
    ) {
        let mut policy = seeded(&(1..=ports).collect::<Vec<_>>());
        let mut last = BTreeMap::new();
        for random in randoms {
            let (now, address) = fail_next(&mut policy, random);
            if let Some(before) = last.insert(address, now) {
                let gap = now - before;
                prop_assert!(gap >= DELAY_MIN * 3 / 4, "{gap:?}");
                prop_assert!(gap <= DELAY_MAX * 5 / 4, "{gap:?}");
            }
        }
        prop_assert_eq!(last.len(), usize::from(ports));
    }
}
