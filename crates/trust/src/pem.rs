//! PEM files: chains of certificates, and keys.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::sign::CertifiedKey;

use crate::{FileError, Problem};

/// Who we say to be: a chain of certificates and the key of the first.
#[derive(Debug, Clone)]
pub struct Identity {
    pub(crate) key: Arc<CertifiedKey>,
}

impl Identity {
    /// Reads both, which may be in one file.
    ///
    /// # Errors
    /// [`FileError`] about the file that cannot be used; about the certificate's, if the two do not go together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, FileError> {
        let chain = certificates(certificate)?;
        let key = private_key(key)?;
        let pair = CertifiedKey::from_der(chain, key, &ring::default_provider());
        let key = Arc::new(pair.map_err(|error| wrong(certificate, error.into()))?);
        Ok(Self { key })
    }
}

/// All certificates of a file, at least one.
///
/// # Errors
/// [`FileError`]: it cannot be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, FileError> {
    let found = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let found: Vec<_> = found.map_err(|error| wrong(path, error.into()))?;
    if found.is_empty() { Err(wrong(path, Problem::Empty)) } else { Ok(found) }
}

/// The first private key of a file.
///
/// # Errors
/// [`FileError`]: it cannot be read, or has none.
pub fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, FileError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| wrong(path, error.into()))
}

pub(crate) fn wrong(path: &Path, problem: Problem) -> FileError {
    FileError { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_a_file_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("cert.pem");
        let problem = |path: &Path| certificates(path).unwrap_err().problem;
        assert!(matches!(problem(&path), Problem::Pem(_)));
        std::fs::write(&path, "nothing of the kind").unwrap();
        assert!(matches!(problem(&path), Problem::Empty));
        assert!(matches!(private_key(&path).unwrap_err().problem, Problem::Pem(_)));
        assert_eq!(Identity::read(&path, &path).unwrap_err().path, path);
    }
}
