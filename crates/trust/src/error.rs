//! What may be wrong with the files, and with what they make.

use std::path::PathBuf;

use tokio_rustls::rustls;
use tokio_rustls::rustls::client::VerifierBuilderError;
use tokio_rustls::rustls::pki_types::pem;

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    #[source]
    pub problem: Problem,
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// It cannot be read, or holds nothing of the kind.
    #[error(transparent)]
    Pem(#[from] pem::Error),
    /// It is readable and has no certificate.
    #[error("no certificate in it")]
    Empty,
    /// One of its certificates is damaged, or it does not go with its key.
    #[error(transparent)]
    Certificate(#[from] rustls::Error),
}

/// Files that are sound, of which no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// There is no authority at all.
    #[error(transparent)]
    Authorities(#[from] VerifierBuilderError),
    /// There is no version of TLS to speak.
    #[error(transparent)]
    Protocol(rustls::Error),
}
