//! Whom we believe: certificates of one configured host.
//!
//! The system's roots are read when the first TLS connection of an operation is made, so nothing is held while the daemon is
//! idle and an updated store needs no restart.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::client::{WebPkiServerVerifier, verify_server_name};
use tokio_rustls::rustls::crypto::{
    CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tokio_rustls::rustls::server::ParsedCertificate;
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use crate::Error;
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
            Err(source) => Err(Error::Tls { host: shown.to_owned(), source }),
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
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Certificate { path: PathBuf::new(), problem: error.to_string() })?;
    let verifier: Arc<dyn ServerCertVerifier> = if settings.skip_verify {
        Arc::new(AnyCertificate(provider))
    } else {
        Arc::new(KnownCertificate::new(&settings.ca, provider)?)
    };
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    match settings.client.first() {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let key_path = key.as_ref().unwrap_or(certificate);
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key_path)
                .map_err(|error| unusable(key_path, &error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| Error::Certificate {
                path: certificate.clone(),
                problem: error.to_string(),
            })
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(path).map_err(|error| unusable(path, &error))?;
    let found: Vec<_> = read.collect::<Result<_, _>>().map_err(|error| unusable(path, &error))?;
    if found.is_empty() {
        return Err(Error::Certificate {
            path: path.to_owned(),
            problem: "no certificate in it".to_owned(),
        });
    }
    Ok(found)
}

fn unusable(path: &Path, error: &pem::Error) -> Error {
    Error::Certificate { path: path.to_owned(), problem: error.to_string() }
}

/// Believes what the system's roots or the host's own authorities vouch for, and the host's own certificates themselves.
///
/// The latter are self-signed server certificates, which the rules for authorities do not allow as such, but which Docker's
/// documentation teaches to make and Go believes.
#[derive(Debug)]
struct KnownCertificate {
    by_authority: Arc<WebPkiServerVerifier>,
    own: Vec<CertificateDer<'static>>,
}

impl KnownCertificate {
    fn new(own_files: &[PathBuf], provider: Arc<CryptoProvider>) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let system = rustls_native_certs::load_native_certs();
        for error in &system.errors {
            tracing::debug!(%error, "a certificate of the system's store cannot be read");
        }
        // A broken entry of the system's store is skipped, as Go does; one that was asked for is an error.
        roots.add_parsable_certificates(system.certs);
        let mut own = Vec::new();
        for path in own_files {
            for certificate in certificates(path)? {
                roots.add(certificate.clone()).map_err(|error| Error::Certificate {
                    path: path.clone(),
                    problem: error.to_string(),
                })?;
                own.push(certificate);
            }
        }
        let built = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let by_authority = built.map_err(|error| Error::Certificate {
            path: PathBuf::from("the system's certificate store"),
            problem: error.to_string(),
        })?;
        Ok(Self { by_authority, own })
    }
}

impl ServerCertVerifier for KnownCertificate {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        let verified = self.by_authority.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        );
        match verified {
            // What has no name of its own here is that an authority is used as a server; a certificate that is too old or
            // too new has.
            Err(TlsError::InvalidCertificate(CertificateError::Other(_)))
                if self.own.iter().any(|own| own == end_entity) =>
            {
                verify_server_name(&ParsedCertificate::try_from(end_entity)?, server_name)?;
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.by_authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.by_authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_authority.supported_verify_schemes()
    }
}

/// `skip_verify`: believes every certificate, but still checks that the other side has its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
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
