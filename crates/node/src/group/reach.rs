//! Where other members reach this node, as interfaces come and go.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use grapevine_core::group::ADDRESSES_MAX;
use tokio::sync::watch;
use tokio::time::timeout;

use super::courier::{Inbox, Input};
use crate::config::Address;

/// Addresses have to stay unchanged for so long before members learn them: each change is a row
/// that every member keeps.
const SETTLING: Duration = Duration::from_secs(2);

/// What a node says when it starts: the configured addresses, else where it listens.
pub(super) fn said(advertise: &[Address], listening: &[SocketAddr]) -> Vec<String> {
    if advertise.is_empty() {
        reachable(listening)
    } else {
        advertise.iter().map(ToString::to_string).collect()
    }
}

/// Hands the group's thread the addresses whenever they have changed and settled, until either
/// ends. While only loopback is left the last ones stand: the network most likely comes back.
pub(super) async fn follow(mut listening: watch::Receiver<Arc<[SocketAddr]>>, inbox: Inbox) {
    while listening.changed().await.is_ok() {
        while let Ok(Ok(())) = timeout(SETTLING, listening.changed()).await {}
        let all = Arc::clone(&listening.borrow_and_update());
        let beyond = |address: &SocketAddr| !address.ip().is_loopback();
        if all
            .iter()
            .filter(|address| is_callable(address))
            .any(beyond)
            && !inbox.put(Input::Addresses(reachable(&all))).await
        {
            return;
        }
    }
}

/// The addresses at which others can call: loopback only when there is nothing else. Where that is
/// more than members call, each family has its share.
fn reachable(all: &[SocketAddr]) -> Vec<String> {
    let callable = || all.iter().filter(|address| is_callable(address));
    let only_loopback = callable().all(|address| address.ip().is_loopback());
    let wanted = callable().filter(|address| only_loopback || !address.ip().is_loopback());
    let (four, six): (Vec<&SocketAddr>, Vec<&SocketAddr>) =
        wanted.partition(|address| address.is_ipv4());
    let turns = 0..four.len().max(six.len());
    let in_turn = turns.flat_map(|turn| [four.get(turn), six.get(turn)]);
    let most = in_turn.flatten().take(ADDRESSES_MAX);
    most.map(ToString::to_string).collect()
}

/// Whether others can call an address: one that needs an interface's name beside it they cannot.
fn is_callable(address: &SocketAddr) -> bool {
    let ip = address.ip();
    let needs_interface = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    !ip.is_unspecified() && !needs_interface
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reached(all: &[&str]) -> Vec<String> {
        let all: Vec<SocketAddr> = all.iter().map(|a| a.parse().expect("one")).collect();
        reachable(&all)
    }

    #[test]
    fn members_learn_the_addresses_at_which_they_can_call() {
        let all = [
            "127.0.0.1:1",
            "10.0.0.1:1",
            "[::1]:1",
            "[fd00::1]:1",
            "[fe80::1]:1",
        ];
        assert_eq!(reached(&all), ["10.0.0.1:1", "[fd00::1]:1"]);
        let alone = ["127.0.0.1:1", "[::1]:1", "[fe80::1]:1"];
        assert_eq!(reached(&alone), ["127.0.0.1:1", "[::1]:1"]);
        assert!(reached(&[]).is_empty());
    }

    #[test]
    fn many_addresses_of_one_family_leave_room_for_the_other() {
        let four: Vec<String> = (1..20).map(|last| format!("10.0.0.{last}:1")).collect();
        let mut all: Vec<&str> = four.iter().map(String::as_str).collect();
        all.push("[fd00::1]:1");
        let said = reached(&all);
        assert_eq!(said.len(), ADDRESSES_MAX);
        assert_eq!(said[..3], ["10.0.0.1:1", "[fd00::1]:1", "10.0.0.2:1"]);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_are_told_once_they_settle_and_loopback_alone_never() {
        let at = |all: &[&str]| -> Arc<[SocketAddr]> {
            all.iter().map(|a| a.parse().expect("one")).collect()
        };
        let (listening, watched) = watch::channel(at(&["127.0.0.1:1"]));
        let (sender, mut inputs) = super::super::courier::inputs();
        let inbox = Inbox::new(sender, std::thread::current());
        let following = tokio::spawn(follow(watched, inbox));
        for flap in [&["10.0.0.1:1"][..], &["127.0.0.1:1"], &["10.0.0.2:1"]] {
            listening.send(at(flap)).expect("it is followed");
            tokio::time::advance(SETTLING / 2).await;
        }
        let told = async |inputs: &mut tokio::sync::mpsc::Receiver<Input>| match inputs.recv().await
        {
            Some(Input::Addresses(addresses)) => addresses,
            _ => panic!("addresses were expected"),
        };
        assert_eq!(told(&mut inputs).await, ["10.0.0.2:1"]);
        listening
            .send(at(&["127.0.0.1:1"]))
            .expect("it is followed");
        tokio::time::advance(2 * SETTLING).await;
        tokio::task::yield_now().await;
        listening
            .send(at(&["10.0.0.2:1", "[fd00::1]:1"]))
            .expect("it is followed");
        assert_eq!(told(&mut inputs).await, ["10.0.0.2:1", "[fd00::1]:1"]);
        drop(listening);
        following.await.expect("it ends");
    }
}
