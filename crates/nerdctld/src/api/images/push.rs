//! `POST /images/{name}/push`: push an image, and tell the client how it goes.

use bytes::Bytes;
use docker_wire::progress::{ProgressDetail, ProgressMessage, PushResult};
use engine::images::{PushEvent, PushRequest, PushStatus};
use futures_util::StreamExt as _;

use super::json_platform;
use super::transfer::{lines_of, meta_headers, number, reference};
use super::view;
use crate::api::auth;
use crate::api::call::{Answer, Call};
use crate::api::compat::requests;
use crate::api::error::ApiError;
use crate::api::reply::Reply;

/// `POST /images/{name}/push`. What fails is the last message, as the first one comes before anything can.
pub(in crate::api) async fn push(call: Call) -> Answer {
    let push = call.engine.push_image(push_request(&call)?);
    Ok(Reply::messages(push.map(|event| Ok(lines(event)))))
}

fn push_request(call: &Call) -> Result<PushRequest, ApiError> {
    let platform = requests::push_platform(call.version, &call.query);
    let platform = Some(platform).filter(|text| !text.is_empty());
    Ok(PushRequest {
        image: reference(call.parameter("name"), call.query.text("tag"))?,
        platform: platform.map(json_platform).transpose()?,
        credentials: auth::from_header(call),
        meta_headers: meta_headers(&call.headers),
    })
}

/// One event as its lines.
fn lines(event: engine::Result<PushEvent>) -> Bytes {
    lines_of(&match event {
        Ok(event) => messages(event),
        Err(error) => vec![ProgressMessage::failure(error.message(), 0)],
    })
}

fn messages(event: PushEvent) -> Vec<ProgressMessage> {
    match event {
        PushEvent::PushingTo { repository } => {
            let text = format!("The push refers to repository [{repository}]");
            vec![ProgressMessage::status(text)]
        }
        PushEvent::Layer { id, status } => vec![layer(id, status)],
        PushEvent::InsteadOfIndex { original, selected } => {
            let (original, selected) = (view::descriptor(original), view::descriptor(selected));
            vec![ProgressMessage::pushed_instead(original, selected)]
        }
        PushEvent::ContentMissing { descriptor } => {
            vec![ProgressMessage::content_missing(view::descriptor(descriptor))]
        }
        PushEvent::Done { tag: None, .. } => Vec::new(),
        PushEvent::Done { tag: Some(tag), digest, size } => vec![
            ProgressMessage::status(format!("{tag}: digest: {digest} size: {size}")),
            // Only the daemon with graph drivers sends it, and skaffold takes the digest from it.
            ProgressMessage::push_result(PushResult { tag, digest, size: number(size) }),
        ],
    }
}

fn layer(id: String, status: PushStatus) -> ProgressMessage {
    let words = match status {
        PushStatus::Pushing { current, total } => {
            let detail = ProgressDetail {
                current: number(current),
                total: number(total),
                ..ProgressDetail::default()
            };
            return ProgressMessage::layer_progress(id, "Pushing", detail);
        }
        PushStatus::MountedFrom(from) => format!("Mounted from {from}"),
        PushStatus::Waiting => "Waiting".to_owned(),
        PushStatus::Pushed => "Pushed".to_owned(),
        PushStatus::LayerAlreadyExists => "Layer already exists".to_owned(),
        PushStatus::AlreadyExists => "Already exists".to_owned(),
    };
    ProgressMessage::layer(id, words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_clients_look_for() {
        let text = |event| String::from_utf8(lines(event).to_vec()).unwrap();
        let event = PushEvent::PushingTo { repository: "docker.io/library/x".to_owned() };
        assert_eq!(
            text(Ok(event)),
            "{\"status\":\"The push refers to repository [docker.io/library/x]\"}\r\n"
        );
        let layer = |status| Ok(PushEvent::Layer { id: "0123456789ab".to_owned(), status });
        assert_eq!(
            text(layer(PushStatus::Pushing { current: 1, total: 2 })),
            "{\"status\":\"Pushing\",\"progressDetail\":{\"current\":1,\"total\":2},\"id\":\"0123456789ab\"}\r\n"
        );
        assert_eq!(
            text(layer(PushStatus::MountedFrom("library/y".to_owned()))),
            "{\"status\":\"Mounted from library/y\",\"progressDetail\":{},\"id\":\"0123456789ab\"}\r\n"
        );
        let done = PushEvent::Done {
            tag: Some("latest".to_owned()),
            digest: "sha256:ab".to_owned(),
            size: 7,
        };
        assert_eq!(
            text(Ok(done)),
            "{\"status\":\"latest: digest: sha256:ab size: 7\"}\r\n\
             {\"progressDetail\":{},\"aux\":{\"Tag\":\"latest\",\"Digest\":\"sha256:ab\",\"Size\":7}}\r\n"
        );
    }
}
