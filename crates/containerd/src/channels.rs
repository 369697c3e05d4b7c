//! The two connections to containerd's socket.
//!
//! One connection is HTTP/2 with one flow-control window for all its streams: a long upload would
//! stall a `kill` that shares it. So blobs have their own. Both are made at first use and again
//! after they broke, by the call that needs them.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// Window of one stream. HTTP/2's default of 64 KiB makes a round trip of every 64 KiB; memory is
/// used only as far as a reader lags.
const STREAM_WINDOW: u32 = 4 << 20;
/// Window of a connection: more than a few streams, so that one that nobody reads (events, a paused
/// download) cannot stop the others.
const CONNECTION_WINDOW: u32 = 64 << 20;

/// Where containerd listens, and the connections to it.
#[derive(Debug)]
pub(crate) struct Channels {
    socket: PathBuf,
    control: OnceLock<Channel>,
    bulk: OnceLock<Channel>,
}

impl Channels {
    pub(crate) fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned(), control: OnceLock::new(), bulk: OnceLock::new() }
    }

    pub(crate) fn socket(&self) -> &Path {
        &self.socket
    }

    /// For everything that is small.
    pub(crate) fn control(&self) -> Channel {
        self.control.get_or_init(|| lazy_channel(self.socket.clone())).clone()
    }

    /// For the bytes of blobs.
    pub(crate) fn bulk(&self) -> Channel {
        self.bulk.get_or_init(|| lazy_channel(self.socket.clone())).clone()
    }
}

/// A channel that connects at the first call and after every loss.
///
/// No HTTP/2 keep-alive: grpc-go answers pings more often than every five minutes with GOAWAY, and
/// a Unix socket tells at once when its peer is gone.
fn lazy_channel(socket: PathBuf) -> Channel {
    // The address is a formality: the connector below ignores it.
    Endpoint::from_static("http://containerd.invalid")
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .connect_with_connector_lazy(service_fn(move |_: Uri| connect(socket.clone())))
}

async fn connect(socket: PathBuf) -> io::Result<TokioIo<UnixStream>> {
    Ok(TokioIo::new(UnixStream::connect(socket).await?))
}
