//! bloomd over UDP: a datagram's lines are executed, nothing is answered.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::net::UdpSocket;
use tokio::sync::watch;

use super::Gateway;
use super::execute::Executor;

/// Longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams taken from the socket before their operations are written.
const DATAGRAMS_PER_WRITE: usize = 64;
/// Datagrams taken after the node was told to stop.
const DATAGRAMS_AT_STOP_MAX: usize = 10_000;
/// The time to find what had arrived at the end.
const LOOK_AT_STOP: Duration = Duration::from_millis(10);

/// The socket and its buffers.
pub(super) struct Datagrams<'g> {
    gateway: &'g Gateway,
    executor: Executor<'g>,
    socket: UdpSocket,
    buffer: Vec<u8>,
    replies: Vec<u8>,
}

impl<'g> Datagrams<'g> {
    pub(super) fn new(gateway: &'g Gateway, socket: UdpSocket) -> Self {
        Datagrams {
            gateway,
            executor: Executor::new(gateway),
            socket,
            buffer: vec![0; DATAGRAM_BYTES_MAX + 1],
            replies: Vec::new(),
        }
    }

    /// Serves until `stop` turns true and what had arrived is executed.
    pub(super) async fn serve(&mut self, mut stop: watch::Receiver<bool>) {
        loop {
            let received = tokio::select! {
                // A datagram that was begun is executed whole: only the wait for one is given up.
                _ = stop.wait_for(|stop| *stop) => break,
                received = self.socket.recv_from(&mut self.buffer) => received,
            };
            match received {
                Ok(datagram) => self.take(datagram, DATAGRAMS_PER_WRITE).await,
                Err(error) => self
                    .gateway
                    .engine
                    .complain("receiving bloomd datagrams", &error),
            }
        }
        // The socket says that it can be read only once the runtime has looked at it.
        drop(tokio::time::timeout(LOOK_AT_STOP, self.socket.readable()).await);
        if let Ok(datagram) = self.socket.try_recv_from(&mut self.buffer) {
            self.take(datagram, DATAGRAMS_AT_STOP_MAX).await;
        }
    }

    /// Executes the datagram in the buffer and up to `more` that wait behind it, then writes
    /// their operations.
    async fn take(&mut self, datagram: (usize, SocketAddr), more: usize) {
        let began = Instant::now();
        let mut position = self.execute(datagram).await;
        for _ in 0..more {
            let Ok(datagram) = self.socket.try_recv_from(&mut self.buffer) else {
                break;
            };
            position = position.max(self.execute(datagram).await);
        }
        if let Err(error) = self.gateway.engine.settle(position).await {
            self.gateway.metrics.failures.inc();
            self.gateway.engine.complain("bloomd datagrams", &error);
        }
        let duration = &self.gateway.metrics.duration;
        self.executor.kinds.done(began, duration);
    }

    async fn execute(&mut self, (length, from): (usize, SocketAddr)) -> u64 {
        self.executor.set_from(Some(from), None);
        self.gateway.metrics.datagrams.inc();
        // A datagram is whole, so its last line needs no line end.
        let mut end = length.min(DATAGRAM_BYTES_MAX);
        if self.buffer[..end].last() != Some(&b'\n') {
            self.buffer[end] = b'\n';
            end += 1;
        }
        let (mut start, mut position) = (0, 0);
        loop {
            self.replies.clear();
            let lines = &self.buffer[start..end];
            let executed = self.executor.run(lines, 0, &mut self.replies, usize::MAX);
            position = position.max(executed.position);
            start += executed.consumed;
            match executed.job {
                Some(job) => drop(
                    job.run(self.gateway, &mut self.executor, &mut self.replies)
                        .await,
                ),
                None => return position,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Client;
    use std::sync::Arc;

    use grapevine_core::catalogue::Storage;
    use grapevine_core::filter::parameters::{Growth, Parameters};
    use grapevine_store::collections::Collections;
    use grapevine_store::disk::SimulatedDisk;
    use grapevine_store::filters::{Options, Recreation, Scratch};
    use grapevine_store::log::LogConfig;

    use super::*;
    use crate::config::{Durability, SyncMode};
    use crate::engine::{Engine, FilterDefaults, FilterWish};
    use crate::gateway::bloomd::{Limits, Settings};
    use crate::metrics::BloomdMetrics;
    use crate::replies::{ClientMemory, Replies};

    fn engine() -> Arc<Engine> {
        let options = Options {
            log: LogConfig::default(),
            memory: 1 << 20,
            checkpoint_log: 1 << 20,
            idle_unload: None,
        };
        let disk = Arc::new(SimulatedDisk::new());
        let opened = Collections::open(disk, options, Arc::new(|| [7; 16]));
        let defaults = FilterDefaults {
            parameters: Parameters {
                capacity: 1000,
                error: 1e-6,
                growth: Growth::By(2),
            },
            storage: Storage::Durable,
        };
        let durability = Durability {
            sync: SyncMode::Os,
            interval: Duration::from_secs(1),
        };
        Engine::new(opened.expect("it opens").0, defaults, durability)
    }

    #[test]
    fn what_arrived_before_the_stop_is_executed() {
        let engine = engine();
        let new = engine.defaults().filter(FilterWish::default());
        let created = engine.filters().create(b"f", new, Recreation::AtOnce);
        created.expect("a filter");
        let limits = Limits {
            connections: 1,
            line: 1 << 20,
            output: 1 << 20,
            write_timeout: std::time::Duration::from_secs(30),
            idle: None,
        };
        let memory = ClientMemory {
            replies: Replies::new(1 << 20),
            requests: Replies::new(1 << 20),
        };
        let metrics = BloomdMetrics::default();
        let settings = Settings::default();
        let gateway = Gateway::new(Arc::clone(&engine), limits, memory, metrics, settings);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let keys: Vec<String> = (0..200).map(|number| format!("key-{number}")).collect();
        runtime.block_on(async {
            let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let client = Client::bind("127.0.0.1:0").expect("a port");
            let server = socket.local_addr().expect("an address");
            for key in &keys {
                let sent = client.send_to(format!("s f {key}").as_bytes(), server);
                sent.expect("it is sent");
            }
            // The runtime has not looked at the socket yet.
            let (_stop, stopping) = watch::channel(true);
            gateway.serve_udp(socket, stopping).await;
        });
        let handle = engine.filters().get(b"f").expect("the filter");
        let slices: Vec<&[u8]> = keys.iter().map(String::as_bytes).collect();
        let mut scratch = Scratch::default();
        let checked = engine.filters().check(&handle, &slices, &mut scratch);
        checked.expect("it answers");
        let found = scratch.found().iter().filter(|found| **found).count();
        assert_eq!(found, keys.len());
    }
}
