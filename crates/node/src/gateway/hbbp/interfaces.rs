//! Interfaces by name, and a listener that follows one.
//!
//! An interface that was taken away and made again has another number, and a socket bound to the
//! old one hears nothing and says nothing. So the number is asked for once a second: one system
//! call, which sees every change. The kernel's messages about changes would come at once, but they
//! can be lost under load, so that asking would be needed beside them, and what is sent before a
//! host has seen a new link come up is lost anyway. An interface that goes down and up keeps its
//! number and its socket.

use std::io;
use std::net::UdpSocket;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::net::netdevice;

use super::socket;

/// How often an interface is looked for.
pub const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The number of an interface; nothing when there is none of that name.
///
/// # Errors
/// When the system cannot be asked.
pub fn number(name: &str) -> io::Result<Option<NonZeroU32>> {
    let any = socket::sending()?;
    match netdevice::name_to_index(any.as_fd(), name) {
        Ok(number) => Ok(NonZeroU32::new(number)),
        Err(rustix::io::Errno::NODEV) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The name of an interface; its number when it has gone meanwhile.
#[must_use]
pub(super) fn name(number: u32) -> String {
    let name = socket::sending().and_then(|any| {
        let name = netdevice::index_to_name(any.as_fd(), number)?;
        Ok(name)
    });
    name.unwrap_or_else(|_| number.to_string())
}

/// What to listen on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// One interface, by its name.
    Interface(String),
    /// All of them.
    Everywhere,
}

/// What a look has found.
#[derive(Debug)]
pub enum Change {
    /// Nothing is new.
    None,
    /// The interface is there, or is another one: from now on this socket hears it.
    Bound(UdpSocket),
    /// The interface has gone, and the socket hears nothing any more.
    Gone,
}

/// Where a listener listens, and whether its socket still hears anything.
#[derive(Debug)]
pub struct Ear {
    place: Place,
    port: u16,
    /// The number of the interface that the socket is bound to. 0 stands for all.
    bound: Option<u32>,
}

impl Ear {
    /// A listener that is not bound yet.
    #[must_use]
    pub fn new(place: Place, port: u16) -> Self {
        Ear {
            place,
            port,
            bound: None,
        }
    }

    /// A listener whose socket was bound before, to the interface with that number.
    #[must_use]
    pub fn bound_to(place: Place, port: u16, number: u32) -> Self {
        Ear {
            place,
            port,
            bound: Some(number),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The number of the interface that the socket is bound to; 0 for all, nothing while it is
    /// not there.
    #[must_use]
    pub fn bound(&self) -> Option<u32> {
        self.bound
    }

    /// Looks for the interface and binds a socket to it when it is new.
    ///
    /// # Errors
    /// When the system refuses; the next look tries again.
    pub fn look(&mut self) -> io::Result<Change> {
        let Place::Interface(name) = &self.place else {
            if self.bound.is_some() {
                return Ok(Change::None);
            }
            let socket = socket::everywhere(self.port)?;
            self.bound = Some(0);
            return Ok(Change::Bound(socket));
        };
        let found = number(name)?;
        if found.map(NonZeroU32::get) == self.bound {
            return Ok(Change::None);
        }
        self.bound = None;
        let Some(found) = found else {
            return Ok(Change::Gone);
        };
        let socket = socket::on_interface(found, self.port)?;
        self.bound = Some(found.get());
        Ok(Change::Bound(socket))
    }
}
