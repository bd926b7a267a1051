//! Streams over one TCP connection: yamux with bounded windows. libp2p's own adapter leaves the
//! bound at one GiB a connection.

use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};
use libp2p::futures::{AsyncRead, AsyncWrite};
use yamux::{Connection, ConnectionError, Mode};

use super::limits::{STREAMS_MAX, WINDOW_BYTES};

/// Bytes of one yamux frame; with the encryption's own limit of 64 KiB a message.
const PIECE_BYTES: usize = 32 << 10;

/// Makes a multiplexer of an encrypted connection.
#[derive(Clone, Debug)]
pub(super) struct Multiplex;

/// The streams of one connection.
pub(super) struct Muxer<C> {
    connection: Connection<C>,
    /// A stream that came while nobody asked for one.
    waiting: Option<yamux::Stream>,
    /// Who asks for one.
    asking: Option<std::task::Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn new(socket: C, mode: Mode) -> Self {
        let mut config = yamux::Config::default();
        config.set_max_num_streams(STREAMS_MAX as usize);
        config.set_max_connection_receive_window(Some(WINDOW_BYTES as usize));
        config.set_split_send_size(PIECE_BYTES);
        Muxer {
            connection: Connection::new(socket, config, mode),
            waiting: None,
            asking: None,
        }
    }

    /// The next stream that the other side opens; everything else moves on by this, too.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, ConnectionError>> {
        let next = self.connection.poll_next_inbound(cx);
        next.map(|stream| stream.unwrap_or(Err(ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = ConnectionError;

    fn poll_inbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        let this = self.get_mut();
        if let Some(stream) = this.waiting.take() {
            return Poll::Ready(Ok(stream));
        }
        let next = this.poll_next(cx);
        if next.is_pending() {
            this.asking = Some(cx.waker().clone());
        }
        next
    }

    fn poll_outbound(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Self::Substream, Self::Error>> {
        self.get_mut().connection.poll_new_outbound(cx)
    }

    fn poll_close(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.get_mut().connection.poll_close(cx)
    }

    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        let this = self.get_mut();
        while let Poll::Ready(stream) = this.poll_next(cx) {
            // One stream is all that a peer opens; a second one that waits resets the first.
            this.waiting = Some(stream?);
            if let Some(waker) = this.asking.take() {
                waker.wake();
            }
        }
        Poll::Pending
    }
}

impl UpgradeInfo for Multiplex {
    type Info = &'static str;
    type InfoIter = iter::Once<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> InboundConnectionUpgrade<C> for Multiplex {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(socket, Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin> OutboundConnectionUpgrade<C> for Multiplex {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, socket: C, _: Self::Info) -> Self::Future {
        ready(Ok(Muxer::new(socket, Mode::Client)))
    }
}
