//! `POST /auth`: do these credentials open that registry?

use docker_wire::auth::{AuthResponse, RegistryAuth};
use docker_wire::decode;
use engine::images::Credentials;

use super::call::{Answer, Call, chain};
use super::error::Refusal;
use super::reply::Reply;

/// `POST /auth`. The content type is not looked at, as in dockerd.
pub(super) async fn check(call: Call) -> Answer {
    let body = call.body.read().await?;
    let given: RegistryAuth = decode::from_slice(&body).map_err(|error| {
        // The body and the header of the same content have one decoder in moby (`authconfig.go`).
        Refusal::BadJson(format!("invalid X-Registry-Auth header: {}", chain(&error)))
    })?;
    let outcome = call.engine.check_login(&credentials(&given)).await?;
    Ok(Reply::json(&AuthResponse {
        identity_token: outcome.identity_token,
        status: outcome.status,
    }))
}

/// The credentials of the header `X-Registry-Auth`; what cannot be read means none.
pub(super) fn from_header(call: &Call) -> Credentials {
    credentials(&RegistryAuth::from_header(call.header("x-registry-auth")))
}

fn credentials(given: &RegistryAuth) -> Credentials {
    let (username, password) = given.basic().unwrap_or_default();
    Credentials {
        username,
        password,
        identity_token: given.identity_token.clone(),
        registry_token: given.registry_token.clone(),
        server_address: given.server_address.clone(),
    }
}
