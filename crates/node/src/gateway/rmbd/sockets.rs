//! The gateway's sockets, one for each address that it listens on.
//!
//! Replies leave from the address that the question came to: a client that has connected its
//! socket takes nothing from another one. A socket that is bound to all addresses of the machine
//! would let the system choose, so it asks for that address with each datagram and names it again
//! in the reply.

use std::future::poll_fn;
use std::io::{self, IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::task::{Context, Poll};

use nix::sys::socket::{
    ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
    sockopt,
};
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Between whom a datagram went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Way {
    /// Who sent it.
    pub(super) from: SocketAddr,
    /// The address of this node that it came to; nothing where the system does not tell.
    pub(super) to: Option<IpAddr>,
    /// The socket's number.
    pub(super) socket: usize,
}

/// A socket and where it is bound.
struct Bound {
    udp: UdpSocket,
    address: SocketAddr,
}

/// All sockets of the gateway.
pub(super) struct Sockets {
    bound: Vec<Bound>,
    /// Which is looked at first.
    next: usize,
    /// Room for what the system tells beside a datagram.
    control: Vec<u8>,
}

impl Sockets {
    /// Takes the sockets over.
    ///
    /// # Errors
    /// When one is not bound, or does not tell where datagrams come to.
    pub(super) fn new(sockets: Vec<UdpSocket>) -> io::Result<Self> {
        let mut bound = Vec::new();
        for udp in sockets {
            let address = udp.local_addr()?;
            if address.ip().is_unspecified() {
                if address.is_ipv4() {
                    setsockopt(&udp, sockopt::Ipv4PacketInfo, &true)?;
                } else {
                    setsockopt(&udp, sockopt::Ipv6RecvPacketInfo, &true)?;
                }
            }
            bound.push(Bound { udp, address });
        }
        Ok(Sockets {
            bound,
            next: 0,
            control: nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo),
        })
    }

    /// Where they are bound.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        self.bound.iter().map(|bound| bound.address).collect()
    }

    /// The address of this node that a datagram came to.
    pub(super) fn own_address(&self, way: &Way) -> Option<SocketAddr> {
        let bound = self.bound.get(way.socket)?;
        Some(SocketAddr::new(way.to?, bound.address.port()))
    }

    /// Waits until something may have arrived. May be dropped while it waits.
    pub(super) async fn readable(&mut self) -> io::Result<()> {
        poll_fn(|context| self.poll_readable(context))
            .await
            .map(drop)
    }

    /// The number of a socket in which something may have arrived, of each in turn.
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let count = self.bound.len();
        for index in (self.next..count).chain(0..self.next) {
            if let Poll::Ready(ready) = self.bound[index].udp.poll_recv_ready(context) {
                self.next = (index + 1) % count;
                return Poll::Ready(ready.map(|()| index));
            }
        }
        Poll::Pending
    }

    /// The next datagram: its length, cut to the buffer's, and its way. May be dropped while it
    /// waits.
    pub(super) async fn receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        loop {
            let index = poll_fn(|context| self.poll_readable(context)).await?;
            match self.take(index, buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                taken => return taken,
            }
        }
    }

    /// A datagram that has arrived.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub(super) fn try_receive(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        let count = self.bound.len();
        let mut outcome = Err(io::ErrorKind::WouldBlock.into());
        for index in (self.next..count).chain(0..self.next) {
            outcome = self.take(index, buffer);
            match &outcome {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => break,
            }
        }
        outcome
    }

    fn take(&mut self, index: usize, buffer: &mut [u8]) -> io::Result<(usize, Way)> {
        let bound = &self.bound[index];
        let (length, from, to) = if bound.address.ip().is_unspecified() {
            let control = &mut self.control;
            let receive = || receive_with_target(&bound.udp, buffer, control);
            bound.udp.try_io(Interest::READABLE, receive)?
        } else {
            let (length, from) = bound.udp.try_recv_from(buffer)?;
            (length, from, Some(bound.address.ip()))
        };
        let socket = index;
        Ok((length, Way { from, to, socket }))
    }

    /// Answers what came this way, from the address that it came to.
    pub(super) async fn reply(&self, datagram: &[u8], way: &Way) -> io::Result<()> {
        let Some(bound) = self.bound.get(way.socket) else {
            return Ok(());
        };
        let named = way.to.filter(|_| bound.address.ip().is_unspecified());
        let Some(source) = named else {
            return bound.udp.send_to(datagram, way.from).await.map(drop);
        };
        let send = || send_from(&bound.udp, datagram, source, way.from);
        bound.udp.async_io(Interest::WRITABLE, send).await
    }

    /// Sends a datagram from the socket that fits `to` best.
    ///
    /// # Errors
    /// Why the last socket could not, or that none is of the address's family.
    pub(super) async fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for bound in self.fitting(to) {
            outcome = bound.udp.send_to(datagram, to).await.map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The same without waiting for room.
    pub(super) fn try_send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        let mut outcome = Err(io::ErrorKind::AddrNotAvailable.into());
        for bound in self.fitting(to) {
            outcome = bound.udp.try_send_to(datagram, to).map(drop);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// The sockets of an address's family: those of all addresses, and for loopback those on
    /// loopback, before the others.
    fn fitting(&self, to: SocketAddr) -> impl Iterator<Item = &Bound> {
        let fits = move |bound: &&Bound| {
            let own = bound.address.ip();
            own.is_unspecified() || own.is_loopback() == to.ip().is_loopback()
        };
        let family = move |bound: &&Bound| bound.address.is_ipv4() == to.is_ipv4();
        let others = self.bound.iter().filter(move |bound| !fits(bound));
        let all = self.bound.iter().filter(fits).chain(others);
        all.filter(family)
    }
}

/// Receives with the address that the datagram came to.
fn receive_with_target(
    socket: &UdpSocket,
    buffer: &mut [u8],
    control: &mut [u8],
) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
    let mut parts = [IoSliceMut::new(buffer)];
    let (descriptor, flags) = (socket.as_raw_fd(), MsgFlags::empty());
    let message = recvmsg::<SockaddrStorage>(descriptor, &mut parts, Some(control), flags)?;
    let from = message.address.as_ref().and_then(socket_address);
    let from = from.ok_or(io::ErrorKind::InvalidData)?;
    let to = message.cmsgs()?.find_map(|control| match control {
        // The address of this machine, also where the datagram went to all of a network.
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_spec_dst.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(info.ipi6_addr.s6_addr.into()),
        _ => None,
    });
    let to = to.filter(|to| !to.is_unspecified() && !to.is_multicast());
    Ok((message.bytes, from, to))
}

fn socket_address(storage: &SockaddrStorage) -> Option<SocketAddr> {
    let four = storage.as_sockaddr_in();
    let six = storage.as_sockaddr_in6();
    four.map(|four| SocketAddrV4::from(*four).into())
        .or_else(|| six.map(|six| SocketAddrV6::from(*six).into()))
}

fn send_from(
    socket: &UdpSocket,
    datagram: &[u8],
    source: IpAddr,
    to: SocketAddr,
) -> io::Result<()> {
    let address = SockaddrStorage::from(to);
    let parts = [IoSlice::new(datagram)];
    let (descriptor, flags) = (socket.as_raw_fd(), MsgFlags::empty());
    match source {
        IpAddr::V4(source) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(source.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(descriptor, &parts, &control, flags, Some(&address))?;
        }
        IpAddr::V6(source) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: source.octets(),
                },
                ipi6_ifindex: 0,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(descriptor, &parts, &control, flags, Some(&address))?;
        }
    }
    Ok(())
}
