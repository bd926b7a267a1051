//! What the log says of addresses that are called in vain (`group.join`, `group join`).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use grapevine_net::{Address, DialFailure, Seed, Seeds, Trouble};

/// Between two lines about one address and one reason.
const EVERY: Duration = Duration::from_mins(10);
/// Reasons that are remembered of an address; beyond that the oldest may be logged again early.
const REASONS_MAX: usize = 8;

/// Logs how calling goes, until the transport stops.
pub(super) async fn follow(mut seeds: Seeds) {
    let mut told = Told::default();
    while let Some(now) = seeds.changed().await {
        for line in told.news(&now, Instant::now()) {
            tracing::info!("{line}");
        }
    }
}

/// What was logged of each address that is called: its reasons, and when. There are at most as
/// many addresses as the transport calls.
#[derive(Debug, Default)]
struct Told(BTreeMap<Address, BTreeMap<String, Instant>>);

impl Told {
    fn news(&mut self, seeds: &[Seed], now: Instant) -> Vec<String> {
        let called = |address: &Address| {
            let mut called = seeds.iter().filter(|seed| !seed.connected);
            called.any(|seed| seed.address == *address)
        };
        self.0.retain(|address, _| called(address));
        let lines = seeds.iter().filter_map(|seed| self.line(seed, now));
        lines.collect()
    }

    /// The line about an address, if one is due.
    fn line(&mut self, seed: &Seed, now: Instant) -> Option<String> {
        let reason = quiet_reason(seed)?;
        // While it is being called again the outcome is open.
        let next = seed.next_attempt?;
        let reasons = self.0.entry(seed.address.clone()).or_default();
        if reasons.get(&reason).is_some_and(|at| now < *at + EVERY) {
            return None;
        }
        if reasons.len() >= REASONS_MAX {
            let oldest = reasons.iter().min_by_key(|(_, at)| **at);
            let oldest = oldest.map(|(reason, _)| reason.clone());
            oldest.map(|reason| reasons.remove(&reason));
        }
        let address = &seed.address;
        let seconds = next.as_millis().div_ceil(1000);
        let line = format!("calling {address}: {reason}; next attempt in {seconds} s");
        reasons.insert(reason, now);
        Some(line)
    }
}

/// Why a call failed, where nothing else in the log says so: other failures are warnings, and how
/// a session ended is logged with it.
fn quiet_reason(seed: &Seed) -> Option<String> {
    let Some(Trouble::Call(failure)) = &seed.trouble else {
        return None;
    };
    let quiet = matches!(
        failure,
        DialFailure::NoAnswer | DialFailure::WrongPeer | DialFailure::TooMany
    );
    quiet.then(|| failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed(port: u16, failure: DialFailure) -> Seed {
        Seed {
            address: format!("192.0.2.1:{port}").parse().expect("an address"),
            waiting: Duration::ZERO,
            attempts: 1,
            last_attempt: Some(Duration::ZERO),
            next_attempt: Some(Duration::from_millis(7200)),
            trouble: Some(Trouble::Call(failure)),
            peer: None,
            connected: false,
        }
    }

    #[test]
    fn each_reason_of_an_address_is_logged_at_once_and_then_every_ten_minutes() {
        let mut told = Told::default();
        let start = Instant::now();
        let silent = seed(1, DialFailure::NoAnswer);
        let line = "calling 192.0.2.1:1: nobody answers; next attempt in 8 s";
        let calling = Seed {
            next_attempt: None,
            ..silent.clone()
        };
        assert!(told.news(&[calling], start).is_empty());
        assert_eq!(told.news(std::slice::from_ref(&silent), start), [line]);
        let soon = start + EVERY - Duration::from_millis(1);
        let other = seed(1, DialFailure::WrongPeer);
        let lines = told.news(std::slice::from_ref(&other), soon);
        assert_eq!(lines.len(), 1, "the reason is new");
        for _ in 0..100 {
            // Two reasons in turn are no news.
            assert!(told.news(std::slice::from_ref(&silent), soon).is_empty());
            assert!(told.news(std::slice::from_ref(&other), soon).is_empty());
        }
        assert_eq!(
            told.news(std::slice::from_ref(&silent), start + EVERY),
            [line]
        );
        // One that was connected meanwhile, or was taken out, begins again.
        for gone in [
            vec![],
            vec![Seed {
                connected: true,
                trouble: None,
                ..silent.clone()
            }],
        ] {
            assert!(told.news(&gone, start + EVERY).is_empty());
            assert!(told.0.is_empty());
            assert_eq!(
                told.news(std::slice::from_ref(&silent), start + EVERY),
                [line]
            );
        }
    }

    #[test]
    fn what_is_a_warning_already_is_no_second_line() {
        let mut told = Told::default();
        let warned = seed(1, DialFailure::NotAdmitted);
        assert!(told.news(&[warned], Instant::now()).is_empty());
    }
}
