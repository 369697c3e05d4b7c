//! Why TLS with a host fails, in the words of Go's programs: people and scripts know them from dockerd
//! (go src/crypto/x509/verify.go, src/crypto/tls/alert.go, src/net/http/client.go).

use std::error::Error as StdError;
use std::io;

use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsError};

/// Why there is no TLS with a host.
#[derive(Debug, thiserror::Error)]
pub enum TlsFailure {
    /// Nobody whom we believe vouches for its certificate.
    #[error("tls: failed to verify certificate: x509: certificate signed by unknown authority")]
    UnknownAuthority,
    /// Its certificate is too old or too new.
    #[error("tls: failed to verify certificate: x509: certificate has expired or is not yet valid")]
    Expired,
    /// Its certificate is another host's.
    #[error("tls: failed to verify certificate: x509: certificate is {}, not {wanted}", valid_for(.names))]
    OtherName {
        /// Whose it is.
        names: Vec<String>,
        /// Whom we wanted.
        wanted: String,
    },
    /// It speaks HTTP without TLS.
    #[error("http: server gave HTTP response to HTTPS client")]
    PlainHttp,
    /// It does not want us, for example without a certificate of ours.
    #[error("remote error: tls: {0}")]
    Refused(String),
    /// Something else.
    #[error(transparent)]
    Other(io::Error),
}

impl TlsFailure {
    /// What an error of a handshake with `host` means.
    pub(super) fn of(error: io::Error, host: &str) -> Self {
        match tls_error(&error) {
            Some(TlsError::InvalidCertificate(problem)) => {
                Self::of_certificate(problem, host).unwrap_or(Self::Other(error))
            }
            // HTTP begins with a letter, which is no type of record.
            Some(TlsError::InvalidMessage(_)) => Self::PlainHttp,
            Some(TlsError::AlertReceived(alert)) => Self::Refused(words(*alert)),
            _ => Self::Other(error),
        }
    }

    fn of_certificate(problem: &CertificateError, host: &str) -> Option<Self> {
        let other = |names: &[String]| Self::OtherName {
            names: names.iter().map(|name| bare(name)).collect(),
            wanted: host.to_owned(),
        };
        match problem {
            CertificateError::UnknownIssuer => Some(Self::UnknownAuthority),
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Some(Self::Expired),
            CertificateError::NotValidForName => Some(other(&[])),
            CertificateError::NotValidForNameContext { presented, .. } => Some(other(presented)),
            _ => None,
        }
    }

    /// An alert that came after the handshake, which for us is over before the other side has looked at our certificate
    /// (RFC 8446 §4.4.2); `None` for an error of another kind.
    pub(crate) fn in_request(error: &hyper::Error) -> Option<Self> {
        let mut cause = error.source();
        while let Some(one) = cause {
            if let Some(TlsError::AlertReceived(alert)) =
                one.downcast_ref::<io::Error>().and_then(tls_error)
            {
                return Some(Self::Refused(words(*alert)));
            }
            cause = one.source();
        }
        None
    }
}

fn tls_error(error: &io::Error) -> Option<&TlsError> {
    error.get_ref()?.downcast_ref()
}

fn valid_for(names: &[String]) -> String {
    match names {
        [] => "not valid for any names".to_owned(),
        names => format!("valid for {}", names.join(", ")),
    }
}

/// `r.example` of `DnsName("r.example")`, as rustls shows it.
fn bare(shown: &str) -> String {
    let inner = shown.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inner.unwrap_or(shown).trim_matches('"').to_owned()
}

fn words(alert: AlertDescription) -> String {
    let known = match alert {
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::UnrecognisedName => "unrecognized name",
        AlertDescription::InternalError => "internal error",
        other => return format!("alert {}", u8::from(other)),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_in_gos_words() {
        let invalid = |problem| TlsError::InvalidCertificate(problem);
        let rows = [
            (
                invalid(CertificateError::UnknownIssuer),
                "tls: failed to verify certificate: x509: certificate signed by unknown authority",
            ),
            (
                invalid(CertificateError::Expired),
                "tls: failed to verify certificate: x509: certificate has expired or is not yet valid",
            ),
            (
                invalid(CertificateError::NotValidForNameContext {
                    expected: "r.example".try_into().unwrap(),
                    presented: vec!["DnsName(\"a.example\")".into(), "b.example".into()],
                }),
                "tls: failed to verify certificate: x509: certificate is valid for a.example, b.example, not r.example",
            ),
            (
                TlsError::InvalidMessage(tokio_rustls::rustls::InvalidMessage::InvalidContentType),
                "http: server gave HTTP response to HTTPS client",
            ),
            (
                TlsError::AlertReceived(AlertDescription::CertificateRequired),
                "remote error: tls: certificate required",
            ),
            (TlsError::DecryptError, "cannot decrypt peer's message"),
        ];
        for (error, text) in rows {
            let error = io::Error::new(io::ErrorKind::InvalidData, error);
            assert_eq!(TlsFailure::of(error, "r.example").to_string(), text);
        }
    }
}
