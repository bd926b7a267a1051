//! A checked benchmark: every number within its bound, every default filled in.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs as _};
use std::time::Duration;

use super::args::{Args, Mix, ProtocolName};
use super::bloomd::Bloomd;
use super::error::BenchError;
use super::keys::{Distribution, KeyFormat};
use super::protocol::Protocol;
use super::rmbd;

/// Most connections of one run.
pub(super) const CONNECTIONS_MAX: u64 = 10_000;
/// Most threads of the client.
pub(super) const THREADS_MAX: u64 = 64;
/// Most requests in flight per connection.
pub(super) const PIPELINE_MAX: u64 = 1 << 20;
/// Most keys in one request.
pub(super) const BULK_MAX: u64 = 1 << 16;
/// Longest key in bytes.
pub(super) const KEY_LENGTH_MAX: u64 = 1 << 16;
/// Longest prefix of the keys in bytes.
pub(super) const PREFIX_MAX: usize = 1 << 10;
/// Longest run, warm-up or wait.
pub(super) const DURATION_MAX: Duration = Duration::from_secs(24 * 3600);
/// Highest rate of an open loop, in requests per second.
pub(super) const RATE_MAX: f64 = 1e9;
/// Largest exponent of a Zipf distribution: beyond it every draw is the first key.
pub(super) const ZIPF_EXPONENT_MAX: f64 = 10.0;
/// Most memory for the request and reply buffers of all connections, in bytes.
const BUFFER_BYTES_MAX: u64 = 1 << 30;
/// Requests are encoded ahead up to this many bytes per connection (or one request).
const CHUNK_BYTES: usize = 64 << 10;
/// Windows of requests that are encoded ahead, where they fit in a chunk. Small, because what one
/// connection has encoded no other can send for it at the end of a counted run.
const CHUNK_WINDOWS: usize = 4;
/// How long a run lasts where neither time nor count was given.
const DURATION_DEFAULT: Duration = Duration::from_secs(10);
/// How long a run of counted requests may last where no time was given.
const DURATION_COUNTED: Duration = Duration::from_secs(600);
/// Requests in flight per connection of an open loop: enough that the limit does not close it.
const PIPELINE_OPEN: usize = 1024;
/// Smallest capacity that is asked for by default: what the servers use themselves.
const CAPACITY_MIN: u64 = 100_000;

/// What will be run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// What the server speaks.
    pub(super) speaks: ProtocolName,
    /// The server.
    pub(super) address: SocketAddr,
    /// The filter's name.
    pub(super) filter: String,
    /// The capacity to create it with, in keys.
    capacity: u64,
    /// The error rate to create it with.
    error: f64,
    /// Whether to create the filter.
    pub(super) create: bool,
    /// The operations.
    pub(super) mix: Mix,
    /// Connections over all threads.
    pub(super) connections: usize,
    /// Threads, at most one per connection.
    pub(super) threads: usize,
    /// Most requests in flight per connection.
    pub(super) pipeline: usize,
    /// Keys per request.
    pub(super) bulk: usize,
    /// Number of different keys.
    pub(super) keys: u64,
    /// Order of the keys.
    pub(super) distribution: Distribution,
    /// How a key is written.
    pub(super) format: KeyFormat,
    /// Requests to send in all, where counted.
    pub(super) requests: Option<u64>,
    /// Longest time that requests are sent.
    pub(super) duration: Duration,
    /// Requests per second of an open loop.
    pub(super) rate: Option<f64>,
    /// How long to run before measuring.
    pub(super) warmup: Duration,
    /// How long to wait for the next reply.
    pub(super) timeout: Duration,
    /// Seed of everything drawn.
    pub(super) seed: u64,
    /// The server's process.
    pub(super) server_pid: Option<u32>,
}

impl Plan {
    /// Checks what the arguments say together; each alone was checked when it was read.
    pub(super) fn new(args: Args) -> Result<Self, BenchError> {
        if args.threads > args.connections {
            return Err(BenchError::Threads {
                threads: args.threads,
                connections: args.connections,
            });
        }
        let format = KeyFormat::new(&args.prefix, args.key_length, args.keys)?;
        let duration_default = if args.requests.is_some() {
            DURATION_COUNTED
        } else {
            DURATION_DEFAULT
        };
        let pipeline_default = if args.rate.is_some() {
            PIPELINE_OPEN
        } else {
            1
        };
        let plan = Self {
            speaks: args.protocol,
            address: resolve(args.address())?,
            filter: args.filter,
            capacity: args.capacity.unwrap_or(args.keys.max(CAPACITY_MIN)),
            error: args.error,
            create: !args.no_create,
            mix: args.operation,
            connections: args.connections,
            threads: args.threads,
            pipeline: args.pipeline.unwrap_or(pipeline_default),
            bulk: args.bulk,
            keys: args.keys,
            distribution: args.distribution,
            format,
            requests: args.requests,
            duration: args.duration.unwrap_or(duration_default),
            rate: args.rate,
            warmup: args.warmup,
            timeout: args.timeout,
            seed: args.seed,
            server_pid: args.server_pid,
        };
        plan.check_buffers()?;
        Ok(plan)
    }

    /// The protocol, ready to encode this plan's requests; nothing for one of datagrams.
    pub(super) fn protocol(&self) -> Option<Box<dyn Protocol>> {
        match self.speaks {
            ProtocolName::Bloomd => Some(Box::new(Bloomd::new(
                &self.filter,
                self.capacity,
                self.error,
                self.bulk,
            ))),
            ProtocolName::Rmbd => None,
        }
    }

    /// How many requests a connection encodes ahead, given the size of one in bytes.
    pub(super) fn chunk_requests(&self, request_bytes: usize) -> usize {
        let fitting = (CHUNK_BYTES / request_bytes).max(1);
        self.pipeline.saturating_mul(CHUNK_WINDOWS).min(fitting)
    }

    fn check_buffers(&self) -> Result<(), BenchError> {
        let Some(protocol) = self.protocol() else {
            return self.check_datagrams();
        };
        let request = protocol.request_bytes(self.format.length());
        let chunk = request as u64 * self.chunk_requests(request) as u64;
        let needed = (chunk + protocol.reply_bytes_max() as u64) * self.connections as u64;
        if needed > BUFFER_BYTES_MAX {
            return Err(BenchError::Buffers {
                needed,
                limit: BUFFER_BYTES_MAX,
            });
        }
        Ok(())
    }
}

impl Plan {
    /// A datagram holds one key, and a socket's buffer only so many datagrams.
    fn check_datagrams(&self) -> Result<(), BenchError> {
        for (option, value, limit) in [
            ("--bulk", self.bulk, 1),
            ("--key-length", self.format.length(), rmbd::KEY_LENGTH_MAX),
            ("--pipeline", self.pipeline, rmbd::PIPELINE_MAX),
        ] {
            if value > limit {
                return Err(BenchError::Datagrams {
                    option,
                    value,
                    protocol: self.speaks.name(),
                    limit,
                });
            }
        }
        Ok(())
    }
}

/// The part of `total` that falls to `index` of `parts`, dealt out as evenly as it goes.
pub(super) fn share(total: u64, parts: u64, index: u64) -> u64 {
    total / parts + u64::from(index < total % parts)
}

fn resolve(address: &str) -> Result<SocketAddr, BenchError> {
    let fail = |source| BenchError::Resolve {
        address: address.to_owned(),
        source,
    };
    let mut found = address.to_socket_addrs().map_err(fail)?;
    found
        .next()
        .ok_or_else(|| fail(io::ErrorKind::NotFound.into()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn shares_add_up(total in 0_u64..10_000, parts in 1_u64..100) {
            let shares: Vec<u64> = (0..parts).map(|index| share(total, parts, index)).collect();
            prop_assert_eq!(shares.iter().sum::<u64>(), total);
            prop_assert!(shares[0] - shares[shares.len() - 1] <= 1);
        }
    }
}
