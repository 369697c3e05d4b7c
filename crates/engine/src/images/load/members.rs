//! The archive, taken apart by a thread: its files, in pieces, as they come.

use std::io::{self, Read};
use std::path::{Component, Path};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tar::EntryType;
use tokio::sync::mpsc;

use crate::archive::compression::decompressed;
use crate::archive::reader::{ReadError, TarReader};

/// Pieces that wait for the store.
pub(super) const WAITING: usize = 8;
/// Bytes of one piece.
const PIECE: usize = 256 * 1024;
/// Entries of an archive: each costs containerd some work, and no image has that many layers.
const MAX_ENTRIES: usize = 20_000;

/// Bytes of one path, as for the kernel.
const MAX_PATH: usize = 4096;
/// Bytes of all paths: they are kept until the end, and layers have short ones.
const MAX_PATHS: usize = 8 << 20;

/// What comes out of the archive. A [`Member::File`] is followed by its pieces and its end.
#[derive(Debug)]
pub(super) enum Member {
    /// A file begins.
    File { path: String, size: u64 },
    /// The next bytes of it.
    Piece(Bytes),
    /// All of it has come.
    End {
        /// `sha256:…`; `None` where the name says it already, and the store will compare.
        digest: Option<String>,
    },
    /// Another name of a file; both from the archive's root.
    Link { path: String, target: String },
}

/// The store wants no more.
struct Enough;

/// Reads all of it. Ends early, and well, when nobody listens any more.
pub(super) fn read(
    source: impl Read + Send,
    members: &mpsc::Sender<Member>,
) -> Result<(), ReadError> {
    let mut archive = TarReader::new(decompressed(source).map_err(ReadError::Io)?);
    let (mut count, mut paths) = (0, 0);
    while let Some(entry) = archive.next()? {
        count += 1;
        paths += entry.name.len() + entry.link.len();
        let longest = entry.name.len().max(entry.link.len());
        if count > MAX_ENTRIES {
            return Err(ReadError::TooMany(MAX_ENTRIES));
        }
        if longest > MAX_PATH || paths > MAX_PATHS {
            return Err(ReadError::TooLong);
        }
        let Some(path) = clean(&entry.name, "") else { continue };
        let outcome = match entry.kind {
            EntryType::Regular | EntryType::Continuous if entry.sparse.is_none() => {
                file(&mut archive, path, members)?
            }
            EntryType::Symlink => {
                let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
                link(clean(&entry.link, folder), path, members)
            }
            EntryType::Link => link(clean(&entry.link, ""), path, members),
            // Folders say nothing; devices and the like are nothing that an image is stored in.
            _ => Ok(()),
        };
        if let Err(Enough) = outcome {
            return Ok(());
        }
    }
    archive.drain();
    Ok(())
}

fn file<R: Read>(
    archive: &mut TarReader<R>,
    path: String,
    members: &mpsc::Sender<Member>,
) -> Result<Result<(), Enough>, ReadError> {
    // The store hashes what it takes, and compares where the name says what must come out.
    let mut hash = (!path.starts_with("blobs/")).then(Sha256::new);
    let size = archive.left();
    if let Err(enough) = send(members, Member::File { path, size }) {
        return Ok(Err(enough));
    }
    while archive.left() > 0 {
        let room = usize::try_from(archive.left()).map_or(PIECE, |left| left.min(PIECE));
        let mut piece = Vec::with_capacity(room);
        let read = io::copy(&mut (&mut *archive).take(room as u64), &mut piece)?;
        if read == 0 {
            return Err(ReadError::Cut);
        }
        if let Some(hash) = &mut hash {
            hash.update(&piece);
        }
        if let Err(enough) = send(members, Member::Piece(piece.into())) {
            return Ok(Err(enough));
        }
    }
    let digest = hash.map(|hash| names::Digest::from_sha256(hash.finalize().into()).to_string());
    Ok(send(members, Member::End { digest }))
}

fn link(
    target: Option<String>,
    path: String,
    members: &mpsc::Sender<Member>,
) -> Result<(), Enough> {
    match target {
        Some(target) => send(members, Member::Link { path, target }),
        None => Ok(()),
    }
}

fn send(members: &mpsc::Sender<Member>, member: Member) -> Result<(), Enough> {
    members.blocking_send(member).map_err(|_| Enough)
}

/// A path from the archive's root, without dots. `None` for one that leads out of it, or that is no text: nothing in an
/// image's documents can mean it.
fn clean(path: &[u8], folder: &str) -> Option<String> {
    let path = Path::new(folder).join(Path::new(std::str::from_utf8(path).ok()?));
    let mut parts: Vec<&str> = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(part) => parts.push(part.to_str()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::CurDir => {}
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_stay_within_the_archive() {
        for (path, folder, expected) in [
            ("./a/b", "", Some("a/b")),
            ("../1/layer.tar", "2", Some("1/layer.tar")),
            ("a/../b", "", Some("b")),
            ("../a", "", None),
            ("/etc/passwd", "", None),
            ("/etc/passwd", "a", None),
            (".", "", None),
            ("../../x", "a", None),
        ] {
            assert_eq!(clean(path.as_bytes(), folder).as_deref(), expected, "{path} in {folder}");
        }
        assert_eq!(clean(b"\xff", ""), None);
    }

    /// What comes out, as one line each.
    fn members(archive: &[u8]) -> (Vec<String>, Result<(), ReadError>) {
        let (sender, mut receiver) = mpsc::channel(100);
        let outcome = read(archive, &sender);
        drop(sender);
        let mut lines = Vec::new();
        while let Some(member) = receiver.blocking_recv() {
            lines.push(match member {
                Member::File { path, size } => format!("{path} {size}"),
                Member::Piece(bytes) => format!("{} bytes", bytes.len()),
                Member::End { digest } => digest.map_or("end".into(), |digest| digest[..9].into()),
                Member::Link { path, target } => format!("{path} -> {target}"),
            });
        }
        (lines, outcome)
    }

    fn archive() -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        let mut add = |name: &str, kind: EntryType, content: &[u8], link: &str| {
            let mut header = tar::Header::new_ustar();
            header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
            header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
            header.set_entry_type(kind);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content).unwrap();
        };
        add("blobs/", EntryType::Directory, b"", "");
        add("blobs/sha256/a", EntryType::Regular, b"abc", "");
        add("../evil", EntryType::Regular, b"evil", "");
        add("dev", EntryType::Char, b"", "");
        add("1/layer.tar", EntryType::Symlink, b"", "../2/layer.tar");
        add("2/layer.tar", EntryType::Regular, b"", "");
        builder.into_inner().unwrap()
    }

    #[test]
    fn only_files_and_links_within_come_out() {
        let (lines, outcome) = members(&archive());
        outcome.unwrap();
        let expected = [
            "blobs/sha256/a 3",
            "3 bytes",
            "end",
            "1/layer.tar -> 2/layer.tar",
            "2/layer.tar 0",
            "sha256:e3",
        ];
        assert_eq!(lines, expected);
    }

    /// An archive of a link with a path of so many bytes, so many times.
    fn with_paths(length: usize, times: usize) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for number in 0..times {
            let path = format!("{number:0>length$}");
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(EntryType::Link);
            header.set_size(0);
            builder.append_link(&mut header, path, "x").unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn paths_are_bounded_each_and_all() {
        let outcome = |length, times| {
            let (sender, receiver) = mpsc::channel(MAX_ENTRIES);
            let outcome = read(&with_paths(length, times)[..], &sender);
            drop(receiver);
            outcome
        };
        outcome(MAX_PATH, 1).unwrap();
        for (length, times) in [(MAX_PATH + 1, 1), (MAX_PATH, MAX_PATHS / MAX_PATH + 1)] {
            assert!(matches!(outcome(length, times), Err(ReadError::TooLong)), "{length} {times}");
        }
    }

    #[test]
    fn a_cut_archive_is_an_error() {
        let whole = archive();
        let (_, outcome) = members(&whole[..512 + 512 + 2]);
        assert!(matches!(outcome, Err(ReadError::Cut)), "{outcome:?}");
    }

    #[test]
    fn nobody_listens_any_more() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        read(&archive()[..], &sender).unwrap();
    }
}
