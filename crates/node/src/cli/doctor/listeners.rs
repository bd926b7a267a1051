//! Whether the addresses can be bound, and who has those that cannot.

use std::fs;
use std::net::{Ipv6Addr, SocketAddr, TcpListener};
use std::path::Path;

use grapevine_store::disk::lock_holder;

use super::Check;
use crate::config::{Config, Listener};
use grapevine_net::sockets::{self, Refused, bind_all};

/// Processes whose open files are looked through.
const PROCESSES_MAX: usize = 10_000;
/// Open files looked at of each.
const FILES_MAX: usize = 100_000;

pub(super) fn check(config: &Config, checks: &mut Vec<Check>) {
    let node = lock_holder(&config.node.data_dir).ok().flatten();
    for listener in config.listeners() {
        checks.push(one(listener, node));
    }
    checks.push(match TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) {
        Ok(_) => Check::ok("IPv6 loopback", "works"),
        Err(error) => Check::warn(
            "IPv6 loopback",
            error.to_string(),
            "addresses in brackets cannot be used on this machine",
        ),
    });
}

fn one(listener: &Listener, node: Option<u32>) -> Check {
    let Some(address) = &listener.address else {
        return Check::ok(listener.key, "off");
    };
    let subject = format!("{} {address}", listener.key);
    let places = match address.places() {
        Ok(places) => places,
        Err(error) => return Check::fail(subject, error.to_string(), "correct the address"),
    };
    let udp = listener.key.ends_with(".udp");
    let Err(refused) = bind(udp, &places) else {
        return Check::ok(subject, "free");
    };
    if !refused.is_taken() {
        let advice = "choose an address of this machine, and a port that its user may bind";
        return Check::fail(subject, refused.to_string(), advice);
    }
    match holder(udp, refused.address.port()) {
        Some((pid, _)) if Some(pid) == node => Check::ok(
            subject,
            format!("served by this directory's node (pid {pid})"),
        ),
        holder => taken(listener, subject, holder),
    }
}

fn taken(listener: &Listener, subject: String, holder: Option<(u32, String)>) -> Check {
    let found = match holder {
        Some((pid, name)) => format!("taken by {name} (pid {pid})"),
        None => "taken, by whom this user may not see".to_owned(),
    };
    if listener.is_configured() {
        Check::fail(subject, found, "end that program or set another address")
    } else {
        let advice = "a node will skip this default; set another address to have the gateway";
        Check::warn(subject, found, advice)
    }
}

/// Binds as a node would, and lets go again.
fn bind(udp: bool, places: &[SocketAddr]) -> Result<(), Refused> {
    if udp {
        bind_all(places, sockets::udp).map(drop)
    } else {
        bind_all(places, sockets::tcp).map(drop)
    }
}

/// The process that has a local port, and its name.
fn holder(udp: bool, port: u16) -> Option<(u32, String)> {
    let tables: &[&str] = if udp {
        &["udp", "udp6"]
    } else {
        &["tcp", "tcp6"]
    };
    let inode = tables.iter().find_map(|table| {
        let text = fs::read_to_string(format!("/proc/net/{table}")).ok()?;
        inode_of_port(&text, port, udp)
    })?;
    let wanted = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?;
    processes
        .take(PROCESSES_MAX)
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .find(|(_, path)| has_open(path, &wanted))
        .map(|(pid, path): (u32, _)| {
            let name = fs::read_to_string(path.join("comm")).unwrap_or_default();
            (pid, name.trim().escape_default().to_string())
        })
}

fn has_open(process: &Path, wanted: &str) -> bool {
    let Ok(files) = fs::read_dir(process.join("fd")) else {
        return false;
    };
    files
        .take(FILES_MAX)
        .flatten()
        .any(|file| fs::read_link(file.path()).is_ok_and(|link| link.as_os_str() == wanted))
}

/// The socket that is bound to a port, in the system's table; of TCP's only those that listen.
fn inode_of_port(table: &str, port: u16, udp: bool) -> Option<u64> {
    const LISTENING: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let local = fields.get(1)?.rsplit(':').next()?;
        let found = u16::from_str_radix(local, 16).ok()?;
        let bound = udp || *fields.get(3)? == LISTENING;
        (found == port && bound).then(|| fields.get(9)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn who_listens_is_found() -> io::Result<()> {
        let tcp = TcpListener::bind("127.0.0.1:0")?;
        let udp = UdpSocket::bind("127.0.0.1:0")?;
        let pid = std::process::id();
        for (is_udp, port) in [
            (false, tcp.local_addr()?.port()),
            (true, udp.local_addr()?.port()),
        ] {
            assert_eq!(holder(is_udp, port).map(|(pid, _)| pid), Some(pid));
        }
        Ok(())
    }
}
