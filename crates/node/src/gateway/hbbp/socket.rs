//! HBBP's sockets: IPv6 UDP on one link, nothing else.

use std::io;
use std::net::{Ipv6Addr, SocketAddrV6, UdpSocket};
use std::num::NonZeroU32;

use grapevine_core::wire::hbbp::GROUP;
use socket2::{Domain, Protocol, Socket, Type};

/// Receive buffer asked for, in bytes; the system may grant less.
const BUFFER_BYTES: usize = 1 << 20;
/// Messages stay on the link.
const HOPS: u32 = 1;

/// All nodes on the link.
pub(super) const ALL_NODES: Ipv6Addr = Ipv6Addr::from_segments(GROUP);

/// Where messages to everybody on a link go.
#[must_use]
pub fn everybody(interface: NonZeroU32, port: u16) -> SocketAddrV6 {
    SocketAddrV6::new(ALL_NODES, port, 0, interface.get())
}

/// A socket that hears what is sent to everybody on one link, and nothing else: one that is bound
/// to a multicast address of an interface is bound to that interface. It does not wait.
///
/// # Errors
/// What the system answers; `AddrInUse` when another listener is there.
pub(super) fn on_interface(interface: NonZeroU32, port: u16) -> io::Result<UdpSocket> {
    let socket = new()?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    socket.bind(&everybody(interface, port).into())?;
    // The kernel is in this group on every link; that it also is for a switch that asks who is.
    socket.join_multicast_v6(&ALL_NODES, interface.get())?;
    Ok(socket.into())
}

/// A socket that hears every link, and what is sent to this machine alone. It does not wait.
///
/// # Errors
/// What the system answers; `AddrInUse` when another listener is there.
pub(super) fn everywhere(port: u16) -> io::Result<UdpSocket> {
    let socket = new()?;
    socket.set_recv_buffer_size(BUFFER_BYTES)?;
    let everywhere = SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0);
    socket.bind(&everywhere.into())?;
    Ok(socket.into())
}

/// A socket to send from.
///
/// # Errors
/// What the system answers.
pub(super) fn sending() -> io::Result<UdpSocket> {
    let socket = new()?;
    socket.set_multicast_hops_v6(HOPS)?;
    Ok(socket.into())
}

fn new() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_only_v6(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
