//! Who vouches for servers.

use std::fmt::Display;
use std::path::Path;

use tokio_rustls::rustls::RootCertStore;
use tokio_rustls::rustls::pki_types::CertificateDer;

use crate::pem::{certificates, wrong};
use crate::{FileError, Problem};

/// The system's authorities, and those that somebody named.
#[derive(Debug)]
pub struct Authorities {
    pub(crate) roots: RootCertStore,
    /// The named ones, which are believed as servers too.
    pub(crate) own: Vec<CertificateDer<'static>>,
    damaged: Vec<rustls_native_certs::Error>,
}

impl Authorities {
    /// The system's. What of its store is damaged vouches for nobody, as with Go.
    #[must_use]
    pub fn of_system() -> Self {
        let system = rustls_native_certs::load_native_certs();
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(system.certs);
        Self { roots, own: Vec::new(), damaged: system.errors }
    }

    /// What of the system's store cannot be read.
    pub fn damaged(&self) -> impl Iterator<Item = &dyn Display> {
        self.damaged.iter().map(|error| error as &dyn Display)
    }

    /// Adds all certificates of a PEM file.
    ///
    /// # Errors
    /// [`FileError`]: it cannot be read, has none, or one of them is damaged.
    pub fn add(&mut self, path: &Path) -> Result<(), FileError> {
        for certificate in certificates(path)? {
            self.roots
                .add(certificate.clone())
                .map_err(|error| wrong(path, Problem::Certificate(error)))?;
            self.own.push(certificate);
        }
        Ok(())
    }

    /// Adds the certificates of a PEM file that are sound.
    ///
    /// # Errors
    /// [`FileError`]: it cannot be read, or has none.
    pub fn add_parsable(&mut self, path: &Path) -> Result<(), FileError> {
        let found = certificates(path)?;
        self.roots.add_parsable_certificates(found.iter().cloned());
        self.own.extend(found);
        Ok(())
    }
}
