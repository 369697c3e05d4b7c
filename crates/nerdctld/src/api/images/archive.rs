//! Images as archives: `GET /images/get`, `GET /images/{name}/get`, `POST /images/load`.

use docker_wire::progress::ProgressMessage;
use engine::images::LoadedImage;
use names::Platform;

use super::json_platform;
use crate::api::call::{Answer, Call};
use crate::api::compat::requests;
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// `GET /images/get`.
pub(in crate::api) async fn get(call: Call) -> Answer {
    let names: Vec<String> = call.query.all("names").map(str::to_owned).collect();
    save(&call, &names).await
}

/// `GET /images/{name}/get`.
pub(in crate::api) async fn get_one(call: Call) -> Answer {
    let names = [call.parameter("name").to_owned()];
    save(&call, &names).await
}

async fn save(call: &Call, names: &[String]) -> Answer {
    let archive = call.engine.save_images(names, &platforms(call)?).await?;
    Ok(Reply::stream("application/x-tar", archive))
}

/// `POST /images/load`. As dockerd, it tells failures in an answer of status 200, and nothing on the way: `quiet` changes
/// nothing.
pub(in crate::api) async fn load(call: Call) -> Answer {
    let platforms = platforms(&call)?;
    let body = call.body.clone().into_stream();
    let loaded = Box::pin(call.engine.load_images(body, &platforms)).await;
    let mut messages: Vec<_> = loaded.images.into_iter().map(loaded_message).collect();
    messages.extend(loaded.failure.map(|error| ProgressMessage::failure(error.message(), 0)));
    Ok(Reply::progress(&messages))
}

fn loaded_message(image: LoadedImage) -> ProgressMessage {
    ProgressMessage::output(match image.name {
        Some(name) => format!("Loaded image: {name}\n"),
        None => format!("Loaded image ID: {}\n", image.id),
    })
}

fn platforms(call: &Call) -> Result<Vec<Platform>, Refusal> {
    let given = requests::image_archive_platforms(call.version, &call.query)?;
    given.into_iter().map(json_platform).collect()
}
