//! Trees of files out of a container and into it, as `docker cp` asks for them.

use std::io::Read as _;

use e2e::{Api, Container, Context as _, Result, ensure};
use serde_json::json;

use crate::crowd::timed;
use crate::daemon::megabytes_per_second;
use crate::rows::CopyWay;
use crate::side::Probe;

/// Files of the tree: as many small ones as large ones, which have nearly all bytes.
const FILES: usize = 256;
/// Bytes of a small one.
const SMALL: usize = 4096;

/// What copies the tree of `bytes` that [`with_tree`] made.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn probe(container: &Container, way: CopyWay, bytes: usize) -> Result<Probe<'static>> {
    let tree = Tree { api: container.api().clone(), path: container.path("") };
    Ok(match way {
        CopyWay::Out => reads(tree, "/archive?path=/tree", bytes),
        CopyWay::Export => reads(tree, "/export", bytes),
        CopyWay::In => writes(tree, bytes)?,
    })
}

/// A running container with a tree of `bytes`.
///
/// # Errors
/// When it does not start.
pub(crate) fn with_tree(api: &Api, bytes: usize) -> Result<Container> {
    let large = bytes / FILES;
    let script = format!(
        "for n in $(seq {FILES}); do d=/tree/$((n % 16)); mkdir -p $d; head -c {large} /dev/urandom > $d/large$n
         head -c {SMALL} /dev/urandom > $d/small$n; done; echo made; exec sleep 10000"
    );
    let container =
        api.create(json!({"Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}}))?;
    container.start()?;
    container.until_logged("made")?;
    Ok(container)
}

fn reads(tree: Tree, rest: &'static str, bytes: usize) -> Probe<'static> {
    Box::new(move || {
        let (took, read) = timed(|| tree.read(rest, |_| ()))?;
        ensure!(read > bytes, "a tree of {bytes} bytes in an archive of {read}");
        Ok(vec![megabytes_per_second(bytes, took)])
    })
}

/// The container, which others keep.
struct Tree {
    api: Api,
    path: String,
}

impl Tree {
    /// Reads an archive to its end; `each` sees all of it. Gives its length.
    fn read(&self, rest: &str, mut each: impl FnMut(&[u8])) -> Result<usize> {
        let request = self.api.request("GET", &format!("{}{rest}", self.path));
        let mut stream = self.api.stream(&request)?;
        ensure!(stream.head.status == 200, "{rest}: status {}", stream.head.status);
        let mut buffer = vec![0; 256 * 1024];
        let mut length = 0;
        loop {
            match stream.read(&mut buffer)? {
                0 => return Ok(length),
                count => {
                    each(&buffer[..count]);
                    length += count;
                }
            }
        }
    }
}

fn writes(tree: Tree, bytes: usize) -> Result<Probe<'static>> {
    let mut archive = Vec::with_capacity(bytes + bytes / 8);
    tree.read("/archive?path=/tree", |part| archive.extend_from_slice(part))?;
    Ok(Box::new(move || {
        let (took, status) = timed(|| {
            let request = tree
                .api
                .request("PUT", &format!("{}/archive?path=/tmp", tree.path))
                .header("Content-Type", "application/x-tar")
                .header("Content-Length", archive.len().to_string());
            let mut connection = tree.api.connect()?;
            connection.send(&request)?;
            connection.write(&archive).context("sending an archive")?;
            Ok(connection.head()?.status)
        })?;
        ensure!(status == 200, "status {status}");
        Ok(vec![megabytes_per_second(bytes, took)])
    }))
}
