//! TLS of the listeners on TCP: who we are, and who may come in.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use tokio_rustls::rustls::{self, RootCertStore, ServerConfig};
use trust::{FileError, Problem};

use crate::config::TlsFiles;

/// Why the files do not make a TLS server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// A file that cannot be read, or is no PEM of that kind.
    #[error("{path}: cannot read {what}")]
    File {
        /// What was looked for.
        what: &'static str,
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: Problem,
    },
    /// A readable file without a certificate.
    #[error("{path}: there is no certificate in it")]
    NoCertificate {
        /// The file.
        path: String,
    },
    /// Who signs clients' certificates cannot be trusted.
    #[error("{path}: is no authority for clients' certificates")]
    Clients {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: VerifierBuilderError,
    },
    /// Certificate and key are no pair, or of an unknown kind.
    #[error("--tlscert and --tlskey cannot be used together")]
    Pair(#[source] rustls::Error),
}

/// The TLS server that the files describe: TLS 1.2 and 1.3 (moby `daemon/command/daemon.go`).
///
/// # Errors
/// A file that is not what it should be.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let provider = Arc::new(ring::default_provider());
    let chain = certificates(&files.certificate)?;
    let key = trust::private_key(&files.key).map_err(|error| unusable("a private key", error))?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Pair)?;
    let builder = match &files.clients {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(certificates(path)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .map_err(|source| TlsError::Clients { path: path.display().to_string(), source })?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    trust::certificates(path).map_err(|error| unusable("certificates", error))
}

fn unusable(what: &'static str, error: FileError) -> TlsError {
    let path = error.path.display().to_string();
    match error.problem {
        Problem::Empty => TlsError::NoCertificate { path },
        source => TlsError::File { what, path, source },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let files = TlsFiles { certificate: path("cert.pem"), key: path("key.pem"), clients: None };
        let error = acceptor(&files).err().unwrap().to_string();
        assert!(error.ends_with("cert.pem: cannot read certificates"), "{error}");
        std::fs::write(path("cert.pem"), "nothing of the kind").unwrap();
        let error = acceptor(&files).err().unwrap().to_string();
        assert!(error.ends_with("cert.pem: there is no certificate in it"), "{error}");
    }
}
