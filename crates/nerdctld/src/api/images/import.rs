//! `POST /images/create` with `fromSrc`: an image of an archive, out of the request or from an address.

use bytes::Bytes;
use docker_wire::progress::{ProgressDetail, ProgressMessage};
use engine::images::{ImportEvent, ImportRequest};
use futures_util::StreamExt as _;
use names::Platform;

use super::transfer::parse;
use crate::api::call::{Answer, Call};
use crate::api::compat::requests;
use crate::api::containers::commit::repo_and_tag;
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// From the request's body (`-`) or from an address.
pub(in crate::api) async fn import(call: Call) -> Answer {
    let source = call.query.text("fromSrc");
    let request = request(&call, source)?;
    if source == "-" {
        let body = call.body.clone().into_stream();
        let id = Box::pin(call.engine.import_image(request, body)).await?;
        return Ok(Reply::progress(&[ProgressMessage::status(id)]));
    }
    let address =
        if source.contains("://") { source.to_owned() } else { format!("http://{source}") };
    let mut import = call.engine.import_image_from(address, request);
    let first = match import.next().await {
        Some(Err(error)) => return Err(error.into()),
        Some(Ok(event)) => Some(Ok(event)),
        None => None,
    };
    let lines = futures_util::stream::iter(first).chain(import).map(|event| Ok(line(event)));
    Ok(Reply::messages(lines))
}

fn request(call: &Call, source: &str) -> Result<ImportRequest, Refusal> {
    let query = &call.query;
    let platform = requests::pull_platform(call.version, query);
    let message = query.text("message");
    Ok(ImportRequest {
        name: repo_and_tag(query.text("repo"), query.text("tag"))?,
        platform: (!platform.is_empty()).then(|| parse::<Platform>(platform)).transpose()?,
        comment: match message {
            "" => format!("Imported from {source}"),
            message => message.to_owned(),
        },
        changes: query.all("changes").map(str::to_owned).collect(),
    })
}

fn line(event: engine::Result<ImportEvent>) -> Bytes {
    let number = |given: u64| i64::try_from(given).unwrap_or(i64::MAX);
    let message = match event {
        Ok(ImportEvent::Downloading { from }) => {
            ProgressMessage::status(format!("Downloading from {from}"))
        }
        Ok(ImportEvent::Importing { current, total }) => {
            let (current, total) = (number(current), number(total));
            let detail = ProgressDetail { current, total, ..ProgressDetail::default() };
            ProgressMessage { progress: Some(detail), ..ProgressMessage::status("Importing") }
        }
        Ok(ImportEvent::Done { id }) => ProgressMessage::status(id),
        Err(error) => ProgressMessage::failure(error.message(), 0),
    };
    message.to_line().unwrap_or_default().into()
}
