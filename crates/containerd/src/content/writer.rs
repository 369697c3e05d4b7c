//! Writing blobs: one stream of requests, one of answers, in step but not in lock-step.
//!
//! The protocol (containerd `services/content/contentserver/contentserver.go`): the first message
//! opens and locks the upload and asks where it stands; every further one gets one answer, in
//! order, and need not wait for the one before. containerd hashes what it stores.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use containerd_client::services::v1::{WriteAction, WriteContentRequest, WriteContentResponse};
use futures_core::Stream;
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::call::Call;
use crate::{Client, Error, Labels, Result, classify, wire};

/// Bytes per message: large enough to amortise a message, small enough to keep progress smooth.
const CHUNK: usize = 512 << 10;
/// Messages that may wait for their answer; with [`CHUNK`] this bounds the memory of an upload.
const WINDOW: usize = 4;
/// First and longest pause between tries to open an upload that another client holds
/// (containerd `content/helpers.go`).
const FIRST_PAUSE: Duration = Duration::from_millis(16);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// An upload to begin or to go on with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewIngest {
    /// Its name.
    pub name: String,
    /// Bytes in the end, if known.
    pub total: Option<u64>,
    /// Digest in the end, if known.
    pub expected: Option<String>,
}

/// The answer to opening an upload.
#[derive(Debug)]
pub enum Ingest {
    /// Go on at [`Writer::offset`].
    Open(Writer),
    /// The expected blob is there (and now under the client's lease); nothing to write. Labels, if
    /// any are wanted, are to be set with [`Client::update_blob_labels`].
    AlreadyExists,
}

/// The answer to a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    /// The blob is stored, with the given labels.
    Stored {
        /// Its digest, as containerd computed it.
        digest: String,
    },
    /// The same blob was there already. The given labels were not applied.
    AlreadyExists,
}

/// An open upload, locked for us. Dropping it keeps what was written for the next one who opens
/// the same name; [`Client::abort_ingest`] throws it away.
#[derive(Debug)]
pub struct Writer {
    new: NewIngest,
    requests: mpsc::Sender<WriteContentRequest>,
    /// Boxed, because it is large and a writer is moved about.
    answers: Box<Streaming<WriteContentResponse>>,
    /// Not yet sent.
    buffer: Vec<u8>,
    /// Where the next message begins.
    sent: u64,
    /// Messages without an answer.
    unanswered: usize,
    total: u64,
}

impl Client {
    /// Opens an upload, new or half done. While another client holds it, waits (with growing
    /// pauses) until that one ends; drop to give up.
    ///
    /// # Errors
    /// [`crate::Kind::InvalidArgument`] when it was begun with another size;
    /// [`crate::Kind::NotFound`] when the client's lease is gone; [`crate::Kind::Unavailable`] when
    /// containerd cannot be reached.
    pub async fn open_ingest(&self, new: NewIngest) -> Result<Ingest> {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_open_ingest(new.clone()).await {
                Ok(writer) => return Ok(Ingest::Open(writer)),
                Err(error) if error.is_already_exists() => return Ok(Ingest::AlreadyExists),
                Err(error) if classify::is_locked(&error) => {
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Writes a blob that is in memory, under the given labels. An upload of that name that was left
    /// half done is taken to be of the same bytes and finished; if that was wrong it is thrown away
    /// along with the error, so that the next try begins anew.
    ///
    /// # Errors
    /// As [`Client::open_ingest`] and [`Writer::commit`].
    pub async fn write_blob(
        &self,
        new: NewIngest,
        bytes: &[u8],
        labels: Labels,
    ) -> Result<Committed> {
        let name = new.name.clone();
        let Ingest::Open(writer) = self.open_ingest(new).await? else {
            return Ok(Committed::AlreadyExists);
        };
        let committed = writer.finish(bytes, labels).await;
        if committed.as_ref().is_err_and(Error::is_failed_precondition) {
            // The commit's error is the one to tell; what stays is collected.
            let _ = self.abort_ingest(&name).await;
        }
        committed
    }

    async fn try_open_ingest(&self, new: NewIngest) -> Result<Writer> {
        let call = Call::list("open upload", &new.name);
        let (requests, receiver) = mpsc::channel(1);
        let first = WriteContentRequest {
            action: WriteAction::Stat.into(),
            r#ref: new.name.clone(),
            total: wire::signed(new.total.unwrap_or_default()),
            expected: new.expected.clone().unwrap_or_default(),
            ..WriteContentRequest::default()
        };
        // containerd answers only after the first message, so that must be in the queue already.
        if requests.try_send(first).is_err() {
            return Err(Error::unexpected("open upload", &new.name, "the request queue is full"));
        }
        let mut service = self.content_bytes_service();
        let mut answers =
            Box::new(self.unary(call, Requests(receiver), |request| service.write(request)).await?);
        let stat = call.required(call.finish(answers.message()).await?, "status")?;
        let (sent, total) = (wire::unsigned(stat.offset), wire::unsigned(stat.total));
        Ok(Writer { new, requests, answers, buffer: Vec::new(), sent, unanswered: 0, total })
    }
}

impl Writer {
    /// Where to go on: bytes that containerd has, or will have when it has taken all messages.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.sent + self.buffer.len() as u64
    }

    /// Bytes in the end, as far as containerd knows; 0 = not known.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether all bytes are there already at opening, because the blob is known from another
    /// namespace or an earlier commit was refused: just commit.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.total > 0 && self.offset() == self.total
    }

    /// Forgets what was written before, for a source that cannot go on in the middle.
    ///
    /// # Errors
    /// As [`Writer::write`].
    pub async fn restart(&mut self) -> Result<()> {
        while self.unanswered > 0 {
            self.answer().await?;
        }
        self.buffer.clear();
        // A message at offset 0 truncates.
        self.sent = 0;
        Ok(())
    }

    /// Appends bytes. They are sent in larger pieces, so an error may belong to earlier bytes.
    /// Waits while too many pieces are under way. Do not go on after an error or a dropped call.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`] when containerd goes away; [`crate::Kind::Unknown`] when its
    /// disk is full; [`crate::Kind::DeadlineExceeded`] when it takes nothing for 10 minutes.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let room = CHUNK - self.buffer.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(now);
            bytes = later;
            if self.buffer.len() == CHUNK {
                let message = self.next_message(WriteAction::Write);
                self.send(message).await?;
            }
        }
        Ok(())
    }

    /// Writes what is missing of a blob that is in memory, and commits it.
    ///
    /// # Errors
    /// As [`Writer::write`] and [`Writer::commit`].
    pub async fn finish(mut self, bytes: &[u8], labels: Labels) -> Result<Committed> {
        let rest = usize::try_from(self.offset()).ok().and_then(|offset| bytes.get(offset..));
        match rest {
            Some(rest) => self.write(rest).await?,
            None => {
                self.restart().await?;
                self.write(bytes).await?;
            }
        }
        self.commit(labels).await
    }

    /// Sends what is left, and makes the blob: containerd compares size and digest with what was
    /// given at opening.
    ///
    /// # Errors
    /// [`crate::Kind::FailedPrecondition`] for another size or digest: the upload stays, abort it;
    /// [`crate::Kind::InvalidArgument`] for a label over 4096 bytes.
    pub async fn commit(mut self, labels: Labels) -> Result<Committed> {
        match self.try_commit(labels).await {
            Ok(digest) => Ok(Committed::Stored { digest }),
            Err(error) if error.is_already_exists() => Ok(Committed::AlreadyExists),
            Err(error) => Err(error),
        }
    }

    async fn try_commit(&mut self, labels: Labels) -> Result<String> {
        let mut message = self.next_message(WriteAction::Commit);
        message.total = wire::signed(self.new.total.unwrap_or_default());
        message.expected = self.new.expected.clone().unwrap_or_default();
        message.labels = labels.into_iter().collect();
        self.send(message).await?;
        // The answer to a commit is sent twice; the first is enough.
        loop {
            let answer = self.answer().await?;
            if answer.action() == WriteAction::Commit {
                return Ok(answer.digest);
            }
        }
    }

    /// Takes the buffer into a message at its offset.
    fn next_message(&mut self, action: WriteAction) -> WriteContentRequest {
        let data = std::mem::take(&mut self.buffer);
        let offset = wire::signed(self.sent);
        self.sent += data.len() as u64;
        WriteContentRequest {
            action: action.into(),
            r#ref: self.new.name.clone(),
            offset,
            data,
            ..WriteContentRequest::default()
        }
    }

    async fn send(&mut self, message: WriteContentRequest) -> Result<()> {
        while self.unanswered >= WINDOW {
            self.answer().await?;
        }
        let sent = Call::long("write", &self.new.name).within(self.requests.send(message)).await?;
        if sent.is_err() {
            return Err(self.why_closed().await);
        }
        self.unanswered += 1;
        Ok(())
    }

    async fn answer(&mut self) -> Result<WriteContentResponse> {
        let call = Call::long("write", &self.new.name);
        let answer = call.finish(self.answers.message()).await?;
        self.unanswered = self.unanswered.saturating_sub(1);
        call.required(answer, "rest")
    }

    /// The request stream is closed because containerd ended the call; the answers say why.
    async fn why_closed(&mut self) -> Error {
        loop {
            match self.answer().await {
                Ok(_earlier_answer) => {}
                Err(error) => return error,
            }
        }
    }
}

/// A pause between half and all of the given one, so that two waiters do not stay in step.
fn jittered(pause: Duration) -> Duration {
    let nanos = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default().subsec_nanos();
    let half = pause / 2;
    half + half * (nanos % 1000) / 1000
}

/// The messages to send, as the stream that tonic wants.
#[derive(Debug)]
struct Requests(mpsc::Receiver<WriteContentRequest>);

impl Stream for Requests {
    type Item = WriteContentRequest;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx)
    }
}
