//! Attach: a client's connection becomes the container's streams.
//!
//! What can be refused is refused before the connection is taken over ([`Engine::attach_container`]), and by then the
//! client is registered at the container's I/O monitor: whatever the process writes from its first byte on reaches it,
//! although `docker run` starts the container only after it has seen the answer's head. [`AttachSession::run`] then has the
//! connection until it ends.
//!
//! | Who began the container | Output | Stdin |
//! |---|---|---|
//! | this daemon | from the monitor, as it is written | to the monitor |
//! | nerdctl with our log URI | from the monitor | none: containerd gives it none |
//! | nerdctl, Kubernetes | from their log file, line by line | none |
//! | anybody else | refused | |
//!
//! # How it ends (moby `daemon/attach.go`, `daemon/internal/stream/attach.go`)
//!
//! | What happens | Then |
//! |---|---|
//! | output ends | the connection closes; with `StdinOnce` and no terminal when the container has ended |
//! | the client's side ends, `StdinOnce`, no terminal | the container's stdin is closed; output goes on while the client is there |
//! | the client's side ends, otherwise | the connection closes, the container's stdin stays open |
//! | the same without stdin asked for | nothing: clients that send no stdin close their side at once |
//! | detach keys, on a terminal | event `detach`, the connection closes |
//! | the monitor is killed | the next one is awaited and the stream goes on; what the old one had not sent yet is only in the log |
//!
//! A client that does not read: one that attached before the start holds the container back for as long as it takes, like a
//! pipe (`docker run … | less`), and as dockerd does with every client. One that came later is cut off after five seconds
//! without progress.

pub(in crate::containers) mod client;
mod keys;
mod session;

use std::sync::Arc;
use std::time::Duration;

use io_monitor::client::{AttachStream, Monitor};
use io_monitor::frames::AttachRequest;
use jiff::Timestamp;

pub use session::AttachSession;

pub(crate) use keys::DetachKeys;

use super::{LogSource, Owner, Phase};
use crate::inventory::Entry;
use crate::{Engine, Error, Result};

/// How long a client that attached to a running container may take nothing before it is cut off.
const PATIENCE: Duration = Duration::from_secs(5);

/// A monitor that is being replaced is tried again so often, every [`Engine::RETRY`].
const TRIES: u32 = 25;

/// What a client wants of an attach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachOptions {
    /// Send stdin.
    pub stdin: bool,
    /// Get stdout (all of a terminal's output).
    pub stdout: bool,
    /// Get stderr.
    pub stderr: bool,
    /// Begin with what is stored.
    pub logs: bool,
    /// Go on with what comes.
    pub stream: bool,
    /// Keys that detach from a terminal; Docker's default if empty.
    pub detach_keys: String,
}

/// Where live output comes from.
#[derive(Debug)]
enum Source {
    /// It is not wanted.
    Nothing,
    /// A monitor.
    Monitor(AttachStream, AttachRequest),
    /// The log that another program writes. `since`: the container was not running then; what it has written is old.
    Log { since: Option<Timestamp> },
}

impl Engine {
    /// Register a client. Nothing is sent until [`AttachSession::run`].
    ///
    /// # Errors
    /// [`Error::InvalidDetachKeys`], [`Error::NoSuchContainer`], [`Error::AttachPaused`], [`Error::AttachRestarting`],
    /// [`Error::Unsupported`] for containers whose output nobody keeps.
    pub async fn attach_container(
        &self,
        typed: &str,
        options: AttachOptions,
    ) -> Result<AttachSession> {
        let keys = DetachKeys::parse(&options.detach_keys)
            .ok_or_else(|| Error::InvalidDetachKeys(options.detach_keys.clone()))?;
        let mut entry = self.resolve_entry(typed).await?;
        if entry.container.state.phase != Phase::Running {
            self.up_to_date(Arc::clone(&entry.container), |_| false).await;
            entry = self.resolve_entry(entry.container.id.as_str()).await?;
        }
        match entry.container.state.phase {
            Phase::Paused => return Err(Error::AttachPaused(typed.to_owned())),
            Phase::Restarting => return Err(Error::AttachRestarting(typed.to_owned())),
            Phase::Removing | Phase::Dead => return Err(Error::NoSuchContainer(typed.to_owned())),
            Phase::Created | Phase::Running | Phase::Exited => {}
        }
        let source = if options.stream {
            self.attach_source(&entry, &options).await?
        } else {
            Source::Nothing
        };
        Ok(AttachSession::new(self.clone(), entry, options, keys, source))
    }

    async fn attach_source(&self, entry: &Arc<Entry>, options: &AttachOptions) -> Result<Source> {
        let container = &entry.container;
        let is_ours = container.owner == Owner::Nerdctld;
        let runs = container.state.phase.has_process();
        let request = AttachRequest {
            stdout: options.stdout,
            stderr: options.stderr,
            stdin: options.stdin && container.open_stdin,
            patience_ms: runs.then(|| u64::try_from(PATIENCE.as_millis()).unwrap_or(u64::MAX)),
            ..AttachRequest::default()
        };
        let failed = |error| Error::failed(format!("attach to container {}", container.id), error);
        if is_ours && !runs {
            let (monitor, _) = self.ready_monitor(container).await?;
            return Ok(Source::Monitor(monitor.attach(&request).await.map_err(failed)?, request));
        }
        let tries = if is_ours { TRIES } else { 1 };
        if let Some(stream) = self.reattach(entry, &request, tries).await {
            return Ok(Source::Monitor(stream, request));
        }
        if container.log == LogSource::Unreadable {
            let what =
                format!("attaching to container {}, which another program started", container.id);
            return Err(Error::Unsupported { what, hint: String::new() });
        }
        Ok(Source::Log { since: (!runs).then(Timestamp::now) })
    }

    /// Attach to the monitor of a container that runs; it may be about to be replaced.
    async fn reattach(
        &self,
        entry: &Entry,
        request: &AttachRequest,
        tries: u32,
    ) -> Option<AttachStream> {
        let socket = self.stream_paths(&entry.container.id).socket;
        for attempt in 0..tries {
            if attempt > 0 {
                tokio::time::sleep(Self::RETRY).await;
            }
            if let Ok(monitor) = Monitor::connect(&socket).await
                && let Ok(stream) = monitor.attach(request).await
            {
                return Some(stream);
            }
            if !entry.states.borrow().phase.has_process() {
                return None;
            }
        }
        None
    }
}
