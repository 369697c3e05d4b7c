//! What a container has changed: a list that is written while the files are walked through.

use std::io;

use bytes::Bytes;
use docker_wire::containers::FilesystemChange;
use engine::containers::changes::{Change, ChangeBatch, ChangeKind};
use futures_util::{Stream, StreamExt as _, stream};

use crate::api::call::{Answer, Call};
use crate::api::reply::Reply;

/// `GET /containers/{id}/changes`: `null` when there are none.
pub(in crate::api) async fn changes(call: Call) -> Answer {
    let mut batches = Box::pin(call.engine.container_changes(call.parameter("id")).await?);
    // What cannot be begun is refused with a status; later there is only the cut.
    match batches.next().await {
        None => Ok(Reply::json(&None::<()>)),
        Some(first) => {
            let first = stream::iter([Ok(first?)]);
            Ok(Reply::stream("application/json", list(first.chain(batches))))
        }
    }
}

/// A JSON array of all changes. An error cuts the connection, so that nobody takes a part for the whole.
fn list(
    batches: impl Stream<Item = ChangeBatch> + Send + 'static,
) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let mut before = b'[';
    let elements = batches.map(move |batch| {
        let batch = batch.map_err(|error| io::Error::other(error.message()))?;
        let mut chunk = Vec::new();
        for change in &batch {
            chunk.push(std::mem::replace(&mut before, b','));
            // A number and a text: this cannot fail.
            let _ = serde_json::to_writer(&mut chunk, &view(change));
        }
        Ok(chunk.into())
    });
    elements.chain(stream::iter([Ok(Bytes::from_static(b"]\n"))]))
}

fn view(change: &Change) -> FilesystemChange {
    let kind = match change.kind {
        ChangeKind::Modified => 0,
        ChangeKind::Added => 1,
        ChangeKind::Deleted => 2,
    };
    FilesystemChange { kind, path: change.path.clone() }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn batch(paths: &[&str]) -> ChangeBatch {
        let change = |path: &&str| Change { path: (*path).to_owned(), kind: ChangeKind::Added };
        Ok(paths.iter().map(change).collect())
    }

    #[test]
    fn batches_become_one_list() {
        let batches = stream::iter([batch(&["/a", "/b"]), batch(&["/c"])]);
        let chunks: Vec<_> = list(batches).collect::<Vec<_>>().now_or_never().unwrap();
        let text: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.unwrap().to_vec()).collect();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "[{\"Kind\":1,\"Path\":\"/a\"},{\"Kind\":1,\"Path\":\"/b\"},{\"Kind\":1,\"Path\":\"/c\"}]\n"
        );
    }

    #[test]
    fn an_error_on_the_way_is_no_end() {
        let batches = stream::iter([batch(&["/a"]), Err(engine::Error::ShuttingDown)]);
        let chunks: Vec<_> = list(batches).collect::<Vec<_>>().now_or_never().unwrap();
        assert!(chunks[1].is_err());
    }
}
