//! Files of the archive into containerd's content store, as they come.

use std::collections::HashMap;

use containerd::Labels;
use containerd::content::{Committed, Ingest, NewIngest, Writer};
use names::Digest;
use tokio::sync::mpsc;

use super::bad;
use super::members::Member;
use crate::images::documents::MAX_DOCUMENT;
use crate::images::lease::WorkLease;
use crate::{Engine, Error, Result, fault};

/// Bytes by which compression is told.
const START: usize = 6;

/// Links from one to the next that are followed, as by the kernel.
const MAX_LINKS: usize = 40;

/// A file that is in the store.
#[derive(Clone, Debug, Default)]
pub(super) struct File {
    pub(super) digest: String,
    pub(super) size: u64,
    /// Its first bytes; empty where nobody looked.
    pub(super) start: Vec<u8>,
}

/// What came out of the archive.
#[derive(Debug, Default)]
pub(super) struct Stored {
    /// By path.
    pub(super) files: HashMap<String, File>,
    /// From path to path.
    pub(super) links: HashMap<String, String>,
    /// `oci-layout`.
    pub(super) layout: Option<Vec<u8>>,
    /// `index.json`.
    pub(super) index: Option<Vec<u8>>,
    /// `manifest.json`.
    pub(super) manifest: Option<Vec<u8>>,
}

impl Stored {
    /// A file, or what a link with that path leads to in the end.
    pub(super) fn file(&self, path: &str) -> Option<&File> {
        let mut path = path;
        // A link may lead to a link, but not for ever.
        for _ in 0..=MAX_LINKS {
            match (self.files.get(path), self.links.get(path)) {
                (Some(file), _) => return Some(file),
                (None, Some(target)) => path = target,
                (None, None) => return None,
            }
        }
        None
    }
}

/// Takes files in, under a lease.
pub(super) struct Intake<'a> {
    engine: &'a Engine,
    lease: &'a WorkLease,
    stored: Stored,
    /// Uploads begun.
    count: usize,
}

impl<'a> Intake<'a> {
    pub(super) fn new(engine: &'a Engine, lease: &'a WorkLease) -> Self {
        Self { engine, lease, stored: Stored::default(), count: 0 }
    }

    /// Until the archive ends. Where it ends in the middle of a file, whoever reads it knows why.
    pub(super) async fn run(mut self, mut members: mpsc::Receiver<Member>) -> Result<Stored> {
        while let Some(member) = members.recv().await {
            match member {
                Member::File { path, size } => self.file(path, size, &mut members).await?,
                Member::Link { path, target } => {
                    self.stored.links.insert(path, target);
                }
                // Belongs to a file that was passed over.
                Member::Piece(_) | Member::End { .. } => {}
            }
        }
        Ok(self.stored)
    }

    async fn file(
        &mut self,
        path: String,
        size: u64,
        members: &mut mpsc::Receiver<Member>,
    ) -> Result<()> {
        let document = match path.as_str() {
            "oci-layout" => &mut self.stored.layout,
            "index.json" => &mut self.stored.index,
            "manifest.json" => &mut self.stored.manifest,
            _ if is_of_no_use(&path) || size == 0 => return Ok(()),
            _ => return self.blob(path, size, members).await,
        };
        if size > MAX_DOCUMENT {
            return Err(bad(format!("{path} has {size} bytes, at most {MAX_DOCUMENT} are read")));
        }
        let mut bytes = Vec::new();
        while let Some(Member::Piece(piece)) = members.recv().await {
            bytes.extend_from_slice(&piece);
        }
        *document = Some(bytes);
        Ok(())
    }

    async fn blob(
        &mut self,
        path: String,
        size: u64,
        members: &mut mpsc::Receiver<Member>,
    ) -> Result<()> {
        let expected = digest_of_path(&path);
        // Names of our own: a client that sends slowly holds up nobody else who has the same blob.
        let name = format!("{}-{}", self.lease.id(), self.count);
        self.count += 1;
        let mut turn = self.lease.upload_turn(&name).await;
        let failed = |error| self.failed(&path, error);
        let new = NewIngest { name: name.clone(), total: Some(size), expected: expected.clone() };
        let mut writer = match self.lease.open(new, &mut turn).await.map_err(failed)? {
            // Another namespace has it: nothing is to be written.
            Ingest::Open(writer) if writer.offset() == size => Upload::Known(Some(writer)),
            Ingest::Open(writer) => Upload::Open(writer),
            Ingest::AlreadyExists => Upload::Known(None),
        };
        let mut start = Vec::new();
        let digest = loop {
            match members.recv().await {
                Some(Member::Piece(piece)) => {
                    if start.is_empty() {
                        start = piece.iter().take(START).copied().collect();
                    }
                    if let Upload::Open(writer) = &mut writer {
                        writer.write(&piece).await.map_err(failed)?;
                    }
                }
                Some(Member::End { digest }) => break digest.or(expected),
                // The reader knows why.
                _ => return Ok(()),
            }
        };
        let Some(digest) = digest else {
            return Err(bad(format!("{path} is no name of a blob")));
        };
        let committed = match writer {
            Upload::Open(writer) | Upload::Known(Some(writer)) => {
                writer.commit(Labels::new()).await.map_err(failed)?
            }
            Upload::Known(None) => Committed::AlreadyExists,
        };
        if committed == Committed::AlreadyExists {
            self.lease.hold(&digest).await.map_err(failed)?;
        }
        self.lease.uploaded(&name);
        self.stored.files.insert(path, File { digest, size, start });
        fault::reached("load.blob");
        Ok(())
    }

    fn failed(&self, path: &str, error: containerd::Error) -> Error {
        if error.is_failed_precondition() {
            return bad(format!("failed to ingest {path:?}: {}", error.message()));
        }
        self.engine.containerd_error(format!("failed to ingest {path:?}"), error)
    }
}

/// An upload, as containerd found it.
enum Upload {
    Open(Writer),
    Known(Option<Writer>),
}

/// Of Docker's oldest format, which `manifest.json` has replaced: nothing refers to it.
fn is_of_no_use(path: &str) -> bool {
    path == "repositories" || path.ends_with("/VERSION") || path.ends_with("/json")
}

/// What a blob of an OCI layout must be.
fn digest_of_path(path: &str) -> Option<String> {
    let (algorithm, hex) = path.strip_prefix("blobs/")?.split_once('/')?;
    let digest: Digest = format!("{algorithm}:{hex}").parse().ok()?;
    Some(digest.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_followed_but_not_in_circles() {
        let mut stored = Stored::default();
        stored.files.insert("a/layer.tar".into(), File { size: 7, ..File::default() });
        for (path, target) in
            [("b/layer.tar", "a/layer.tar"), ("c", "b/layer.tar"), ("x", "y"), ("y", "x")]
        {
            stored.links.insert(path.into(), target.into());
        }
        assert_eq!(stored.file("c").map(|file| file.size), Some(7));
        assert!(stored.file("x").is_none() && stored.file("nothing").is_none());
    }

    #[test]
    fn names_of_blobs() {
        let hex = "a".repeat(64);
        let digest = digest_of_path(&format!("blobs/sha256/{hex}"));
        assert_eq!(digest, Some(format!("sha256:{hex}")));
        for path in ["blobs/sha256/abc", "blobs/x", "a/layer.tar"] {
            assert_eq!(digest_of_path(path), None, "{path}");
        }
    }
}
