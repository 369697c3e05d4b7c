//! `GET /images/{name}/attestations`.

use docker_wire::images::AttestationStatement;
use engine::images::{Attestation, AttestationFilter};

use super::{json_platform, view};
use crate::api::call::{Answer, Call, chain};
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// `GET /images/{name}/attestations`.
pub(in crate::api) async fn list(call: Call) -> Answer {
    let platforms: Vec<&str> = call.query.all("platform").collect();
    if platforms.len() > 1 {
        let text = "only one platform value is currently supported";
        return Err(Refusal::BadParameter(text.to_owned()).into());
    }
    let platform = platforms.first().filter(|text| !text.is_empty());
    let types = call.query.all("type").map(str::trim).filter(|text| !text.is_empty());
    let filter = AttestationFilter {
        platform: platform.map(|text| json_platform(text)).transpose()?,
        predicates: types.map(str::to_owned).collect(),
        with_statement: call.query.flag("statement"),
    };
    let found = call.engine.image_attestations(call.parameter("name"), &filter).await?;
    let statements: Result<Vec<_>, engine::Error> = found.into_iter().map(statement).collect();
    Ok(Reply::json(&statements?))
}

fn statement(of: Attestation) -> Result<AttestationStatement, engine::Error> {
    let digest = of.descriptor.digest.clone();
    let statement = of.statement.map(|bytes| serde_json::from_slice(&bytes)).transpose();
    let statement = statement.map_err(|error| {
        engine::Error::BadContent(format!("statement {digest} is no JSON: {}", chain(&error)))
    })?;
    let (descriptor, predicate_type) = (view::descriptor(of.descriptor), of.predicate);
    Ok(AttestationStatement { descriptor, predicate_type, statement })
}
