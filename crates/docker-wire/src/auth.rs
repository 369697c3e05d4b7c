//! Credentials for registries: the header that brings them, and the login endpoint.
//!
//! Source: moby `api/pkg/authconfig/authconfig.go`, `api/types/registry`.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde::{Deserialize, Serialize};

use crate::absent::is_default;
use crate::decode;

/// What proves to a registry who asks. Printing it shows no secret.
#[derive(Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase", default)]
pub struct RegistryAuth {
    /// With a password.
    pub username: String,
    /// Of the user.
    pub password: String,
    /// `username:password` in base64, instead of the two.
    pub auth: String,
    /// Which registry it is for.
    #[serde(rename = "serveraddress")]
    pub server_address: String,
    /// A refresh token, instead of a password.
    #[serde(rename = "identitytoken")]
    pub identity_token: String,
    /// A token to send as it is.
    #[serde(rename = "registrytoken")]
    pub registry_token: String,
}

impl RegistryAuth {
    /// Whether there is nothing to prove anything with.
    #[must_use]
    pub fn is_anonymous(&self) -> bool {
        self.username.is_empty()
            && self.password.is_empty()
            && self.auth.is_empty()
            && self.identity_token.is_empty()
            && self.registry_token.is_empty()
    }

    /// User and password, also out of `auth`; `None` when there are none.
    #[must_use]
    pub fn basic(&self) -> Option<(String, String)> {
        if !self.username.is_empty() {
            return Some((self.username.clone(), self.password.clone()));
        }
        let decoded = decode_any_base64(&self.auth)?;
        let text = String::from_utf8(decoded).ok()?;
        let (username, password) = text.split_once(':')?;
        Some((username.to_owned(), password.to_owned()))
    }

    /// Reads the header `X-Registry-Auth`. Whatever cannot be read means "no credentials", as in Docker: many
    /// clients send `{}`, `null` or nothing.
    #[must_use]
    pub fn from_header(header: &str) -> Self {
        decode_any_base64(header)
            .and_then(|json| decode::from_slice(&json).ok())
            .unwrap_or_default()
    }
}

/// Reads the header `X-Registry-Config` of builds: credentials by registry. Whatever cannot be read means none.
#[must_use]
pub fn registries_from_header(header: &str) -> BTreeMap<String, RegistryAuth> {
    decode_any_base64(header).and_then(|json| decode::from_slice(&json).ok()).unwrap_or_default()
}

/// Whether a key of a credentials file means Docker Hub.
#[must_use]
pub fn is_docker_hub(server: &str) -> bool {
    let host = server
        .strip_prefix("https://")
        .or_else(|| server.strip_prefix("http://"))
        .unwrap_or(server);
    matches!(host.split('/').next(), Some("docker.io" | "index.docker.io" | "registry-1.docker.io"))
}

/// Docker's clients use the URL alphabet with padding; others use the standard one or leave the padding out.
fn decode_any_base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let bytes: Vec<u8> = text
        .trim()
        .bytes()
        .map(|byte| match byte {
            b'+' => b'-',
            b'/' => b'_',
            other => other,
        })
        .collect();
    URL_SAFE.decode(bytes).ok()
}

impl fmt::Debug for RegistryAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |secret: &str| if secret.is_empty() { "" } else { "***" };
        f.debug_struct("RegistryAuth")
            .field("username", &self.username)
            .field("password", &hidden(&self.password))
            .field("auth", &hidden(&self.auth))
            .field("server_address", &self.server_address)
            .field("identity_token", &hidden(&self.identity_token))
            .field("registry_token", &hidden(&self.registry_token))
            .finish()
    }
}

/// The answer of `POST /auth`, whose body is a [`RegistryAuth`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct AuthResponse {
    /// To be used instead of the password from now on.
    #[serde(skip_serializing_if = "is_default")]
    pub identity_token: String,
    /// `Login Succeeded`.
    pub status: String,
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};

    use super::*;

    /// Its encodings differ between the alphabets.
    const JSON: &str =
        r#"{"username":"u","password":"p??>>~~","serveraddress":"quay.io","email":"x@y"}"#;

    #[test]
    fn every_base64_is_understood() {
        for header in [
            URL_SAFE.encode(JSON),
            URL_SAFE_NO_PAD.encode(JSON),
            STANDARD.encode(JSON),
            STANDARD_NO_PAD.encode(JSON),
            format!(" {}\n", STANDARD.encode(JSON)),
        ] {
            let auth = RegistryAuth::from_header(&header);
            assert_eq!(
                (auth.username.as_str(), auth.password.as_str()),
                ("u", "p??>>~~"),
                "{header}"
            );
            assert_eq!(auth.server_address, "quay.io");
        }
        assert_ne!(
            URL_SAFE.encode(JSON),
            STANDARD.encode(JSON),
            "the test tells the alphabets apart"
        );
    }

    #[test]
    fn what_cannot_be_read_is_anonymous() {
        for header in
            ["", "e30=", "bnVsbA==", "null", "%%%", "W10=", &STANDARD.encode("{\"username\":1}")]
        {
            assert!(RegistryAuth::from_header(header).is_anonymous(), "{header}");
        }
    }

    #[test]
    fn user_and_password_may_come_in_one() {
        let auth =
            RegistryAuth { auth: STANDARD.encode("user:pass:word"), ..RegistryAuth::default() };
        assert_eq!(auth.basic(), Some(("user".to_owned(), "pass:word".to_owned())));
        assert_eq!(RegistryAuth::default().basic(), None);
        let token = RegistryAuth { identity_token: "t".to_owned(), ..RegistryAuth::default() };
        assert_eq!(token.basic(), None);
        assert!(!token.is_anonymous());
    }

    #[test]
    fn secrets_are_not_printed() {
        let auth = RegistryAuth {
            username: "u".to_owned(),
            password: "secret".to_owned(),
            auth: "secret".to_owned(),
            server_address: "s".to_owned(),
            identity_token: "secret".to_owned(),
            registry_token: String::new(),
        };
        let printed = format!("{auth:?}");
        assert!(!printed.contains("secret") && printed.contains("***"), "{printed}");
        assert!(printed.contains("registry_token: \"\""), "one sees what is missing: {printed}");
    }

    #[test]
    fn builds_bring_several() {
        let header = URL_SAFE.encode(
            r#"{"https://index.docker.io/v1/":{"username":"a"},"quay.io":{"username":"b"}}"#,
        );
        let registries = registries_from_header(&header);
        assert_eq!(registries["quay.io"].username, "b");
        assert!(registries_from_header("x").is_empty());
    }

    #[test]
    fn docker_hub_has_many_names() {
        for hub in
            ["https://index.docker.io/v1/", "index.docker.io", "docker.io", "http://docker.io"]
        {
            assert!(is_docker_hub(hub), "{hub}");
        }
        assert!(!is_docker_hub("quay.io") && !is_docker_hub("docker.io.evil.com"));
    }

    #[test]
    fn login_answer() {
        let answer =
            AuthResponse { status: "Login Succeeded".to_owned(), ..AuthResponse::default() };
        assert_eq!(serde_json::to_string(&answer).unwrap(), r#"{"Status":"Login Succeeded"}"#);
    }
}
