//! `POST /images/create`: pull an image, and tell the client how it goes. Without an image to pull, it imports one.

use bytes::Bytes;
use docker_wire::progress::{ProgressDetail, ProgressMessage};
use engine::images::{PullEvent, PullPlatforms, PullRequest, PullStatus};
use futures_util::StreamExt as _;
use http::HeaderMap;
use names::{Digest, ImageRef};

use super::import::import;
use crate::api::auth;
use crate::api::call::{Answer, Call, chain};
use crate::api::compat::requests;
use crate::api::error::{ApiError, Refusal};
use crate::api::reply::Reply;

/// `POST /images/create`. A failure before the first message is an ordinary one; later it is the last message.
pub(in crate::api) async fn create(call: Call) -> Answer {
    if call.query.text("fromImage").is_empty() {
        return import(call).await;
    }
    let request = pull_request(&call)?;
    let mut pull = call.engine.pull_image(request);
    let first = match pull.next().await {
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(event)) => Some(Ok(event)),
        None => None,
    };
    let lines = futures_util::stream::iter(first).chain(pull).map(|event| Ok(lines(event)));
    Ok(Reply::messages(lines))
}

fn pull_request(call: &Call) -> Result<PullRequest, ApiError> {
    let query = &call.query;
    let from = query.text("fromImage");
    Ok(PullRequest {
        image: reference(from, query.text("tag"))?,
        platforms: pull_platforms(requests::pull_platforms(call.version, query))?,
        credentials: auth::from_header(call),
        meta_headers: meta_headers(&call.headers),
    })
}

/// Docker's clients send one. Several, or `all`, are for who talks to us.
fn pull_platforms(given: Vec<&str>) -> Result<PullPlatforms, Refusal> {
    match given[..] {
        [] => Ok(PullPlatforms::Host),
        ["all"] => Ok(PullPlatforms::All),
        _ => given.into_iter().map(parse).collect::<Result<_, _>>().map(PullPlatforms::These),
    }
}

/// Name and tag, which may be a digest. Without both it means all tags; old clients then leave a colon at the end.
pub(super) fn reference(from: &str, tag: &str) -> Result<ImageRef, Refusal> {
    let image: ImageRef = parse(from.strip_suffix(':').unwrap_or(from))?;
    if tag.is_empty() {
        return Ok(image);
    }
    match tag.parse::<Digest>() {
        Ok(digest) => Ok(image.without_tag_and_digest().with_digest(digest)),
        Err(_) => image.with_tag(tag).map_err(|error| Refusal::BadParameter(chain(&error))),
    }
}

pub(super) fn parse<T: std::str::FromStr<Err: std::error::Error>>(
    text: &str,
) -> Result<T, Refusal> {
    text.parse().map_err(|error: T::Err| Refusal::BadParameter(chain(&error)))
}

/// `X-Meta-*`, for the registry.
pub(super) fn meta_headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let meta = headers.iter().filter(|(name, _)| name.as_str().starts_with("x-meta-"));
    meta.filter_map(|(name, value)| Some((name.to_string(), value.to_str().ok()?.to_owned())))
        .collect()
}

/// One event as its lines.
fn lines(event: engine::Result<PullEvent>) -> Bytes {
    let messages = match event {
        Ok(event) => messages(event),
        Err(error) => vec![ProgressMessage::failure(error.message(), 0)],
    };
    lines_of(&messages)
}

/// Messages as they go over the wire.
pub(super) fn lines_of(messages: &[ProgressMessage]) -> Bytes {
    let lines = messages.iter().flat_map(|message| message.to_line().unwrap_or_default());
    lines.collect::<Vec<_>>().into()
}

/// A number of ours as Go's JSON has it.
pub(super) fn number(given: u64) -> i64 {
    i64::try_from(given).unwrap_or(i64::MAX)
}

fn messages(event: PullEvent) -> Vec<ProgressMessage> {
    match event {
        PullEvent::PullingFrom { repository, reference } => {
            vec![ProgressMessage::status_of(reference, format!("Pulling from {repository}"))]
        }
        PullEvent::Layer { id, status } => {
            vec![ProgressMessage::layer_progress(id, status.as_str(), detail(status))]
        }
        PullEvent::Done { digest, image, newer } => {
            let outcome =
                if newer { "Downloaded newer image for" } else { "Image is up to date for" };
            vec![
                ProgressMessage::status(format!("Digest: {digest}")),
                ProgressMessage::status(format!("Status: {outcome} {image}")),
            ]
        }
    }
}

/// Empty for what has no numbers.
fn detail(status: PullStatus) -> ProgressDetail {
    match status {
        PullStatus::Downloading { current, total } => ProgressDetail {
            current: number(current),
            total: number(total),
            ..ProgressDetail::default()
        },
        PullStatus::Extracting { seconds } => ProgressDetail {
            current: number(seconds),
            units: "s".to_owned(),
            ..ProgressDetail::default()
        },
        _ => ProgressDetail::default(),
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn references_of_every_client() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (from, tag, expected) in [
            ("nginx", "latest", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.25", "", "docker.io/library/nginx:1.25".to_owned()),
            ("nginx:1.25", "1.26", "docker.io/library/nginx:1.26".to_owned()),
            ("nginx", digest.as_str(), format!("docker.io/library/nginx@{digest}")),
            ("nginx:", "", "docker.io/library/nginx".to_owned()),
            ("localhost:5000/a/b", "x", "localhost:5000/a/b:x".to_owned()),
        ] {
            assert_eq!(reference(from, tag).unwrap().to_string(), expected);
        }
        assert_eq!(
            reference("UPPER", "x").unwrap_err().to_string(),
            "invalid reference format: repository name (library/UPPER) must be lowercase"
        );
        assert_eq!(reference("nginx", "a b").unwrap_err().to_string(), "invalid tag format");
    }

    #[test]
    fn platforms_of_a_pull() {
        let platforms = |given: &[&str]| pull_platforms(given.to_vec());
        let these = |text: &str| PullPlatforms::These(vec![text.parse().unwrap()]);
        assert_eq!(platforms(&[]).unwrap(), PullPlatforms::Host);
        assert_eq!(platforms(&["all"]).unwrap(), PullPlatforms::All);
        assert_eq!(platforms(&["linux/s390x"]).unwrap(), these("linux/s390x"));
        assert!(platforms(&["linux/s390x", "all"]).is_err());
    }

    #[test]
    fn only_meta_headers_go_to_the_registry() {
        let mut headers = HeaderMap::new();
        headers.insert("x-meta-a", HeaderValue::from_static("1"));
        headers.insert("x-registry-auth", HeaderValue::from_static("secret"));
        assert_eq!(meta_headers(&headers), [("x-meta-a".to_owned(), "1".to_owned())]);
    }

    #[test]
    fn what_clients_look_for() {
        let text = |event| String::from_utf8(lines(event).to_vec()).unwrap();
        let done = PullEvent::Done {
            digest: "sha256:ab".into(),
            image: "nginx:latest".into(),
            newer: true,
        };
        assert_eq!(
            text(Ok(done)),
            "{\"status\":\"Digest: sha256:ab\"}\r\n{\"status\":\"Status: Downloaded newer image for nginx:latest\"}\r\n"
        );
        let layer = PullEvent::Layer {
            id: "0123456789ab".into(),
            status: PullStatus::Downloading { current: 1, total: 2 },
        };
        assert_eq!(
            text(Ok(layer)),
            "{\"status\":\"Downloading\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"0123456789ab\"}\r\n"
        );
        assert_eq!(
            text(Err(engine::Error::ReservedImageName)),
            "{\"errorDetail\":{\"message\":\"'scratch' is a reserved name\"},\"error\":\"'scratch' is a reserved name\"}\r\n"
        );
    }
}
