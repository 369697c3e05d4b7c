//! Whom we believe: certificates of one configured host.
//!
//! The system's roots are read when the first TLS connection of an operation is made, so nothing is held while the daemon is
//! idle and an updated store needs no restart.

mod failure;

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, Error as TlsError};
use trust::{Authorities, FileError, Identity};

pub use failure::TlsFailure;

use crate::Error;
use crate::proxy::Block;
use crate::url::Url;

/// The part of a host's configuration that concerns TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    /// Further certificate authorities (PEM files).
    pub(crate) ca: Vec<PathBuf>,
    /// Our certificates: certificate chain and key, or one PEM file that holds both.
    pub(crate) client: Vec<(PathBuf, Option<PathBuf>)>,
    /// Any certificate will do.
    pub(crate) skip_verify: bool,
    /// A host that does not speak TLS may speak plain HTTP.
    pub(crate) plain_fallback: bool,
    /// Because the host has an address in one of these blocks, where it is connected to then; any address if there is none.
    pub(crate) only_within: Vec<Block>,
}

/// TLS with one host, made when first needed. Hosts that it sends us to are believed by the same authorities, but only it
/// may be spoken to without TLS.
#[derive(Debug, Default)]
pub(crate) struct Trust {
    settings: TlsSettings,
    /// Host and port of the configured host.
    origin: Option<(String, Option<u16>)>,
    connector: OnceCell<Connector>,
    /// The host turned out to speak plain HTTP.
    plain: AtomicBool,
}

struct Connector(TlsConnector);

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

/// How a handshake ended.
pub(crate) enum Handshake<S> {
    Done(Box<TlsStream<S>>),
    /// The other side does not speak TLS, and need not.
    Plain,
}

impl Trust {
    /// The trust in the host of `origin`.
    pub(crate) fn new(settings: TlsSettings, origin: &Url) -> Arc<Self> {
        Arc::new(Self {
            settings,
            origin: Some((origin.host.clone(), origin.port)),
            connector: OnceCell::new(),
            plain: AtomicBool::new(false),
        })
    }

    /// Whether plain HTTP is accepted where `url` means HTTPS.
    pub(crate) fn plain_fallback(&self, url: &Url) -> bool {
        self.settings.plain_fallback && self.is_of(url)
    }

    /// Whether the host of `url` is known to speak plain HTTP.
    pub(crate) fn is_plain(&self, url: &Url) -> bool {
        self.plain.load(Ordering::Relaxed) && self.is_of(url)
    }

    /// Whether `url` is at the configured host, not at one that it redirected us to or that gives tokens for it.
    fn is_of(&self, url: &Url) -> bool {
        self.origin
            .as_ref()
            .is_some_and(|(host, port)| host.eq_ignore_ascii_case(&url.host) && *port == url.port)
    }

    /// Whether a connection for `url` may go to this address.
    pub(crate) fn allows(&self, url: &Url, address: IpAddr) -> bool {
        let blocks = &self.settings.only_within;
        blocks.is_empty() || !self.is_of(url) || blocks.iter().any(|block| block.contains(address))
    }

    /// Remembers that the host speaks plain HTTP.
    pub(crate) fn set_plain(&self) {
        self.plain.store(true, Ordering::Relaxed);
    }

    /// Speaks TLS over `stream`. `host` is a name or an address; `shown` is for errors; `plain_fallback` says whether this
    /// very host need not.
    pub(crate) async fn handshake<S>(
        &self,
        stream: S,
        host: &str,
        shown: &str,
        plain_fallback: bool,
    ) -> Result<Handshake<S>, Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| Error::Address {
            address: host.to_owned(),
            problem: "neither a host name nor an address",
        })?;
        match self.connector().await?.connect(name, stream).await {
            Ok(stream) => Ok(Handshake::Done(Box::new(stream))),
            Err(error) if plain_fallback && speaks_no_tls(&error) => {
                self.set_plain();
                Ok(Handshake::Plain)
            }
            Err(error) => {
                Err(Error::Tls { host: shown.to_owned(), source: TlsFailure::of(error, host) })
            }
        }
    }

    async fn connector(&self) -> Result<TlsConnector, Error> {
        let made = self.connector.get_or_try_init(|| async {
            let settings = self.settings.clone();
            match tokio::task::spawn_blocking(move || client_config(&settings)).await {
                Ok(config) => Ok(Connector(TlsConnector::from(Arc::new(config?)))),
                // Only when the runtime ends; nobody will read this.
                Err(_) => Err(Error::Certificate {
                    path: PathBuf::new(),
                    problem: "the daemon is shutting down".to_owned(),
                }),
            }
        });
        Ok(made.await?.0.clone())
    }
}

/// What a server that expects HTTP does with a ClientHello: answers in plain text, or hangs up
/// (containerd core/remotes/docker/resolver.go, HTTPFallback, for the first).
fn speaks_no_tls(error: &io::Error) -> bool {
    match error.get_ref().and_then(|cause| cause.downcast_ref::<TlsError>()) {
        Some(cause) => matches!(cause, TlsError::InvalidMessage(_)),
        None => {
            matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
        }
    }
}

fn client_config(settings: &TlsSettings) -> Result<ClientConfig, Error> {
    let authorities = match settings.skip_verify {
        true => None,
        false => Some(authorities(&settings.ca)?),
    };
    let identity = match settings.client.first() {
        None => None,
        Some((certificate, key)) => {
            Some(Identity::read(certificate, key.as_ref().unwrap_or(certificate))?)
        }
    };
    trust::client(authorities, identity).map_err(|error| Error::Certificate {
        path: PathBuf::from("the system's certificate store"),
        problem: error.to_string(),
    })
}

/// The system's and the host's own; a damaged one that was asked for is an error.
fn authorities(own: &[PathBuf]) -> Result<Authorities, Error> {
    let mut authorities = Authorities::of_system();
    for error in authorities.damaged() {
        tracing::debug!(%error, "a certificate of the system's store cannot be read");
    }
    for path in own {
        authorities.add(path)?;
    }
    Ok(authorities)
}

impl From<FileError> for Error {
    fn from(error: FileError) -> Self {
        Self::Certificate { path: error.path, problem: error.problem.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_host_itself_may_be_plain() {
        let url = |text: &str| Url::parse(text).unwrap();
        let settings = TlsSettings { plain_fallback: true, ..TlsSettings::default() };
        let trust = Trust::new(settings, &url("https://r.example:5000/v2"));
        assert!(!trust.is_plain(&url("https://r.example:5000/v2/")));
        trust.set_plain();
        let same = url("https://R.example:5000/token");
        assert!(trust.is_plain(&same) && trust.plain_fallback(&same));
        for other in ["https://auth.example/token", "https://r.example/x", "https://r.example:443/"]
        {
            let other = url(other);
            assert!(!trust.is_plain(&other) && !trust.plain_fallback(&other), "{other}");
        }
    }
}
