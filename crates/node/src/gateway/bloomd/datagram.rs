//! bloomd over UDP: a datagram's lines are executed, nothing is answered.

use tokio::net::UdpSocket;

use super::Gateway;
use super::execute::Executor;

/// Longest datagram there is.
const DATAGRAM_BYTES_MAX: usize = 64 << 10;
/// Datagrams taken from the socket before their operations are written.
const DATAGRAMS_PER_WRITE: usize = 64;
/// Datagrams taken after the node was told to stop.
const DATAGRAMS_AT_STOP_MAX: usize = 10_000;

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

    /// Serves for ever.
    pub(super) async fn serve(&mut self) {
        loop {
            match self.socket.recv(&mut self.buffer).await {
                Ok(length) => self.take(length, DATAGRAMS_PER_WRITE).await,
                Err(error) => self
                    .gateway
                    .engine
                    .complain("receiving bloomd datagrams", &error),
            }
        }
    }

    /// Serves what has arrived.
    pub(super) async fn serve_rest(&mut self) {
        if let Ok(length) = self.socket.try_recv(&mut self.buffer) {
            self.take(length, DATAGRAMS_AT_STOP_MAX).await;
        }
    }

    /// Executes the datagram in the buffer and up to `more` that wait behind it, then writes
    /// their operations.
    async fn take(&mut self, length: usize, more: usize) {
        let mut position = self.execute(length).await;
        for _ in 0..more {
            let Ok(length) = self.socket.try_recv(&mut self.buffer) else {
                break;
            };
            position = position.max(self.execute(length).await);
        }
        if let Err(error) = self.gateway.engine.settle(position).await {
            self.gateway.metrics.failures.inc();
            self.gateway.engine.complain("bloomd datagrams", &error);
        }
    }

    async fn execute(&mut self, length: usize) -> u64 {
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
                Some(job) => {
                    job.run(self.gateway, &mut self.executor, &mut self.replies)
                        .await
                }
                None => return position,
            }
        }
    }
}
