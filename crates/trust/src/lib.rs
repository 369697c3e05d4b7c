//! Certificates and keys in PEM files, and whom a TLS client believes because of them.
//!
//! | What | Is |
//! |---|---|
//! | [`Authorities`] | the system's roots and those that somebody named |
//! | [`Identity`] | our own certificate and its key |
//! | [`client`] | both, as rustls wants them |
//!
//! Nothing is kept between two calls: the system's roots are read each time, so an updated store needs no restart and an idle
//! process holds none of them.

mod authorities;
mod error;
mod pem;
mod verifier;

use std::sync::Arc;

use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::sign::SingleCertAndKey;

pub use authorities::Authorities;
pub use error::{ConfigError, FileError, Problem};
pub use pem::{Identity, certificates, private_key};

use verifier::Believer;

/// A client that believes `authorities`, or without any everybody who has the key to the certificate that is shown; and that
/// shows `identity` to servers that ask for one.
///
/// # Errors
/// [`ConfigError`]: there is nobody to believe, or no version of TLS to speak.
pub fn client(
    authorities: Option<Authorities>,
    identity: Option<Identity>,
) -> Result<ClientConfig, ConfigError> {
    let provider = Arc::new(ring::default_provider());
    let verifier = Believer::new(authorities, Arc::clone(&provider))?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ConfigError::Protocol)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    Ok(match identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.key)))
        }
    })
}
