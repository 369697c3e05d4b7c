//! From an accepted socket to a connection that is served: who comes in, and who has to wait outside.
//!
//! The Docker API's clients are counted ([`Connections`]). Peers of whom nobody knows who they are, those in the middle of
//! a TLS handshake and readers of metrics, are not among them: they have a few places of their own. A reader who finds none
//! waits in the kernel's queue; a handshake takes the place of the one that began first. So they take nothing from the
//! clients, however many they are and however long they say nothing.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::{Connections, Entered, Stream};

/// Peers at one listener that have not said who they are.
const STRANGERS: usize = 64;
/// Longest time a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// The places for peers that may be anybody.
#[derive(Clone, Debug)]
pub(crate) struct Strangers {
    places: Arc<Semaphore>,
    /// Who may be sent away, the first to come in front.
    first: Arc<Mutex<VecDeque<CancellationToken>>>,
}

impl Strangers {
    pub(super) fn new() -> Self {
        Self { places: Arc::new(Semaphore::new(STRANGERS)), first: Arc::default() }
    }

    /// Wait for a place. Cancel-safe.
    pub(super) async fn place(&self) -> Place {
        // It fails only on a semaphore that is closed, which nobody does.
        let permit = Arc::clone(&self.places).acquire_owned().await.ok();
        Place { _permit: permit, sent_away: CancellationToken::new() }
    }

    /// A place for one who is there; if there is none, the one who came first has had the most time and goes. Cancel-safe.
    pub(super) async fn place_of_the_first(&self) -> Place {
        if self.places.available_permits() == 0
            && let Some(first) = self.present().pop_front()
        {
            first.cancel();
        }
        let place = self.place().await;
        self.present().push_back(place.sent_away.clone());
        place
    }

    /// Those who have a place, without those who went by themselves.
    fn present(&self) -> MutexGuard<'_, VecDeque<CancellationToken>> {
        let mut queue = self.first.lock().unwrap_or_else(PoisonError::into_inner);
        queue.retain(|waiting| !waiting.is_cancelled());
        queue
    }
}

/// One of those places, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
    /// Cancelled when another takes the place, or it is free.
    sent_away: CancellationToken,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sent_away.cancel();
    }
}

/// What a listener has accepted.
pub(super) enum Accepted {
    /// A client of the Docker API.
    Client(Stream),
    /// A client that has to say who it is.
    Handshake(Handshake),
    /// A reader of metrics.
    Reader(Stream, Place),
}

/// A client in the middle of agreeing on TLS.
pub(crate) struct Handshake {
    pub(super) acceptor: TlsAcceptor,
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    pub(super) place: Place,
}

impl Handshake {
    /// `None` if there was no agreement in this time. The place is free again then in any case.
    async fn agree(self, patience: Duration) -> Option<Stream> {
        let Self { acceptor, stream, peer, place } = self;
        let agreed = tokio::select! {
            agreed = tokio::time::timeout(patience, acceptor.accept(stream)) => agreed,
            () = place.sent_away.cancelled() => {
                tracing::debug!(%peer, "a TLS client made room for another");
                return None;
            }
        };
        // Anybody can make these lines: they are for those who look for them.
        match agreed {
            Ok(Ok(stream)) => Some(Stream::Tls(Box::new(stream))),
            Ok(Err(error)) => {
                tracing::debug!(%peer, %error, "a TLS client was refused");
                None
            }
            Err(_) => {
                tracing::debug!(%peer, "a TLS client said nothing");
                None
            }
        }
    }
}

/// A peer from its acceptance on.
pub(crate) enum Visit {
    /// Bytes can flow.
    Inside(Stream, Entered),
    /// It must show a certificate first.
    Outside(Handshake, Connections),
}

impl Visit {
    /// `None` if there is no room even for a refusal; then the peer's connection is closed.
    pub(super) fn new(accepted: Accepted, connections: &Connections) -> Option<Self> {
        Some(match accepted {
            Accepted::Client(stream) => Self::Inside(stream, connections.enter()?),
            Accepted::Reader(stream, place) => Self::Inside(stream, Entered::reader(place)),
            Accepted::Handshake(handshake) => Self::Outside(handshake, connections.clone()),
        })
    }

    /// The open stream, and what counts it; `None` if there was no agreement, or no room for one more.
    pub(crate) async fn enter(self) -> Option<(Stream, Entered)> {
        match self {
            Self::Inside(stream, entered) => Some((stream, entered)),
            Self::Outside(handshake, connections) if connections.are_crowded() => {
                tracing::debug!(peer = %handshake.peer, "no room for a TLS client");
                None
            }
            Self::Outside(handshake, connections) => {
                let stream = handshake.agree(HANDSHAKE).await?;
                Some((stream, connections.enter()?))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;
    use tokio::net::TcpListener;
    use tokio_rustls::rustls::ServerConfig;
    use tokio_rustls::rustls::crypto::ring;
    use tokio_rustls::rustls::server::{ClientHello, ResolvesServerCert};
    use tokio_rustls::rustls::sign::CertifiedKey;

    use super::*;

    /// A server nobody can agree with, which does for clients that say nothing.
    #[derive(Debug)]
    struct NoCertificate;

    impl ResolvesServerCert for NoCertificate {
        fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
            None
        }
    }

    async fn silent(strangers: &Strangers) -> (TcpStream, Handshake) {
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(NoCertificate));
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        (client, Handshake { acceptor, stream, peer, place: strangers.place().await })
    }

    #[tokio::test]
    async fn a_client_that_says_nothing_is_let_go_and_its_place_is_free() {
        let strangers = Strangers::new();
        let (mut client, handshake) = silent(&strangers).await;
        assert_eq!(strangers.places.available_permits(), STRANGERS - 1);
        assert!(handshake.agree(Duration::from_millis(10)).await.is_none());
        assert_eq!(strangers.places.available_permits(), STRANGERS);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed");
    }

    #[tokio::test]
    async fn strangers_are_no_clients_and_crowds_need_no_handshake() {
        let strangers = Strangers::new();
        let connections = Connections::new(4);
        let (mut client, handshake) = silent(&strangers).await;
        let visit = Visit::new(Accepted::Handshake(handshake), &connections).unwrap();
        assert_eq!(connections.open(), 0, "who has not agreed does not count");
        let _clients: Vec<_> = (0..3).map(|_| connections.enter().unwrap()).collect();
        assert!(visit.enter().await.is_none());
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "closed");
        assert_eq!(strangers.places.available_permits(), STRANGERS);
    }

    #[tokio::test]
    async fn the_first_stranger_makes_room_for_the_next() {
        let strangers = Strangers::new();
        let (mut first, handshake) = silent(&strangers).await;
        drop(handshake.place);
        let handshake = Handshake { place: strangers.place_of_the_first().await, ..handshake };
        let agreeing = handshake.agree(HANDSHAKE);
        let mut others = Vec::new();
        let filling = async {
            while others.len() < STRANGERS {
                others.push(strangers.place_of_the_first().await);
            }
        };
        let (agreed, ()) = tokio::join!(agreeing, filling);
        assert!(agreed.is_none());
        assert_eq!(first.read(&mut [0]).await.unwrap(), 0, "closed");
        assert!(others.iter().all(|place| !place.sent_away.is_cancelled()), "only one goes");
    }
}
