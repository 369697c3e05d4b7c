//! What becomes of an answer that is being sent when the daemon stops.
//!
//! A regular end says "this is all". Half an archive that ends so is stored as a whole one, and nobody is told.

use std::io;

use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;

use super::ByteStream;

/// What becomes of a stream when the daemon stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AtStop {
    /// It ends: it never promised more than what came (events, a followed log, statistics).
    End,
    /// Its connection is cut, so that nobody takes the part for the whole (archives, logs).
    Cut,
    /// It goes on: its last word is near, and tells what became of the work.
    Finish,
}

impl AtStop {
    /// The stream as it is sent.
    pub(in crate::api) fn apply(self, chunks: ByteStream, stop: &CancellationToken) -> ByteStream {
        match self {
            Self::End => Box::pin(chunks.take_until(stop.clone().cancelled_owned())),
            Self::Cut => cut(chunks, stop),
            Self::Finish => chunks,
        }
    }
}

fn cut(chunks: ByteStream, stop: &CancellationToken) -> ByteStream {
    let stopped = Box::pin(stop.clone().cancelled_owned());
    Box::pin(stream::unfold(Some((chunks, stopped)), |state| async move {
        let (mut chunks, mut stopped) = state?;
        tokio::select! {
            biased;
            () = &mut stopped => {
                let error = io::Error::new(io::ErrorKind::ConnectionAborted, "the daemon stops");
                Some((Err(error), None))
            }
            chunk = chunks.next() => chunk.map(|chunk| (chunk, Some((chunks, stopped)))),
        }
    }))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// What comes of a stream of two chunks when the daemon stops after the first.
    async fn after_stop(at_stop: AtStop) -> Vec<Result<Bytes, io::ErrorKind>> {
        let stop = CancellationToken::new();
        let chunks = stream::iter([Ok(Bytes::from_static(b"a")), Ok(Bytes::from_static(b"b"))]);
        let mut applied = at_stop.apply(Box::pin(chunks), &stop);
        assert_eq!(applied.next().await.unwrap().unwrap(), "a");
        stop.cancel();
        applied.map(|chunk| chunk.map_err(|error| error.kind())).collect().await
    }

    #[tokio::test]
    async fn a_part_never_looks_like_the_whole() {
        assert_eq!(after_stop(AtStop::End).await, []);
        assert_eq!(after_stop(AtStop::Cut).await, [Err(io::ErrorKind::ConnectionAborted)]);
        assert_eq!(after_stop(AtStop::Finish).await, [Ok(Bytes::from_static(b"b"))]);
    }

    #[tokio::test]
    async fn what_ends_before_the_stop_ends_regularly() {
        let stop = CancellationToken::new();
        for at_stop in [AtStop::End, AtStop::Cut, AtStop::Finish] {
            let chunks = stream::iter([Ok(Bytes::from_static(b"a"))]);
            let applied = at_stop.apply(Box::pin(chunks), &stop).collect::<Vec<_>>().await;
            assert!(applied.len() == 1 && applied[0].is_ok(), "{at_stop:?}");
        }
    }
}
