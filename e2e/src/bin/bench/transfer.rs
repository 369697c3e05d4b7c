//! A large image out of a registry and into it, and out of the store into an archive and back.
//!
//! Its layers cannot be compressed, so what is measured is moving, hashing and unpacking. A push must not be saved by what
//! the store remembers of where blobs are: that is taken away before each.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use e2e::api::pull_messages;
use e2e::forge::{Forge, LAYER, digest, tar};
use e2e::host::{Engine, MIRROR};
use e2e::{Api, Context as _, Host, Result, ensure, unique};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;

use crate::crowd::timed;
use crate::daemon::megabytes_per_second;
use crate::memory;
use crate::rows::{Figure, TransferWay};
use crate::side::Probe;

const LAYERS: usize = 6;
/// Where the image is; each side has a registry of its own.
const REPOSITORY: &str = "bench/large";
/// What containerd remembers of the registry's repositories.
const SOURCES: &str = "containerd.io/distribution.source.127.0.0.1";

/// What moves the image.
#[derive(Clone, Copy)]
pub(crate) struct Stand<'a> {
    pub(crate) host: &'a Host,
    pub(crate) api: &'a Api,
    pub(crate) pid: u32,
}

/// Moves an image of `bytes`.
///
/// # Errors
/// When the image cannot be made.
pub(crate) fn probe(
    stand: Stand<'_>,
    way: TransferWay,
    figure: Figure,
    bytes: usize,
) -> Result<Probe<'_>> {
    let forge = Forge::new(stand.host, REPOSITORY);
    let large = made(stand.host, &forge, bytes)?;
    let name = forge.reference("one");
    if way != TransferWay::Pull {
        stand.api.have(&name)?;
    }
    // Here, and not with the daemon, whose memory is measured.
    let archive = match way {
        TransferWay::Load => large.archive(stand.api, &name)?,
        _ => Arc::default(),
    };
    Ok(Box::new(move || {
        match way {
            TransferWay::Pull | TransferWay::Load => {
                stand.api.delete(&format!("/images/{name}?force=1")).map(drop)?;
            }
            TransferWay::Push => stand.forget_sources(&large.digests)?,
            TransferWay::Save => {}
        }
        memory::forget_peak(stand.pid)?;
        let took = match way {
            TransferWay::Pull => timed(|| stand.api.pull(&name))?.0,
            TransferWay::Push => stand.push(&name)?,
            TransferWay::Save => timed(|| stand.save(&name, bytes))?.0,
            TransferWay::Load => timed(|| stand.load(&archive))?.0,
        };
        Ok(vec![match figure {
            Figure::Speed => megabytes_per_second(bytes, took),
            Figure::Peak => memory::peak(stand.pid)?,
        }])
    }))
}

impl Stand<'_> {
    fn push(&self, name: &str) -> Result<f64> {
        let repository = format!("{MIRROR}/{}", unique("bench/pushed"));
        let tag = format!("/images/{name}/tag?repo={repository}&tag=one");
        self.api.post(&tag)?.expect(201)?;
        let push = format!("/images/{repository}/push?tag=one");
        let (took, response) = timed(|| self.api.post(&push)?.expect(200))?;
        let messages = pull_messages(&response)?;
        let pushed = messages.iter().filter(|message| message["status"] == "Pushed").count();
        ensure!(pushed == LAYERS, "{pushed} layers were sent: {messages:?}");
        self.api.delete(&format!("/images/{repository}:one"))?.expect(200)?;
        Ok(took)
    }

    /// Reads an archive to its end.
    fn save(&self, name: &str, bytes: usize) -> Result<()> {
        let request = self.api.request("GET", &format!("/images/get?names={name}"));
        let mut stream = self.api.stream(&request)?;
        ensure!(stream.head.status == 200, "status {}", stream.head.status);
        let length = std::io::copy(&mut stream, &mut std::io::sink())?;
        ensure!(length > bytes as u64 / 2, "{length} bytes");
        Ok(())
    }

    fn load(&self, archive: &[u8]) -> Result<()> {
        let request = self.api.request("POST", "/images/load");
        pull_messages(&self.api.send(&request.bytes(archive))?.expect(200)?).map(drop)
    }

    fn forget_sources(&self, blobs: &[String]) -> Result<()> {
        let namespace =
            if self.host.plan().engine == Engine::Dockerd { "moby" } else { self.host.namespace() };
        for blob in blobs {
            let nothing = format!("{SOURCES}=");
            self.host.ctr(&["-n", namespace, "content", "label", blob, &nothing])?;
        }
        Ok(())
    }
}

/// The image of one side.
#[derive(Default)]
struct Large {
    /// Of its layers and its manifest.
    digests: Vec<String>,
    /// As saved, once that was asked for.
    archive: Mutex<Arc<Vec<u8>>>,
}

impl Large {
    fn archive(&self, api: &Api, name: &str) -> Result<Arc<Vec<u8>>> {
        let mut archive = self.archive.lock().unwrap_or_else(PoisonError::into_inner);
        if archive.is_empty() {
            *archive = Arc::new(api.get(&format!("/images/get?names={name}"))?.expect(200)?.body);
        }
        Ok(Arc::clone(&archive))
    }
}

/// Makes the image, unless an earlier row has.
fn made(host: &Host, forge: &Forge<'_>, bytes: usize) -> Result<Arc<Large>> {
    static MADE: Mutex<BTreeMap<PathBuf, Arc<Large>>> = Mutex::new(BTreeMap::new());
    let made = || MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let root = host.root()?.to_owned();
    if let Some(large) = made().get(&root) {
        return Ok(Arc::clone(large));
    }
    // Not under the lock: other sides make theirs meanwhile.
    let large = Arc::new(Large { digests: make(forge, bytes)?, ..Large::default() });
    made().insert(root, Arc::clone(&large));
    Ok(large)
}

/// Puts the image into the registry, and answers with the digests of its layers and its manifest.
fn make(forge: &Forge<'_>, bytes: usize) -> Result<Vec<String>> {
    let (mut layers, mut diff_ids, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..LAYERS {
        let content = noise(bytes / LAYERS, number as u64 + 1);
        let tar = tar(&format!("file-{number}"), &content)?;
        let mut gzip = GzEncoder::new(Vec::new(), Compression::none());
        gzip.write_all(&tar).context("gzip")?;
        let layer = forge.blob(&format!("{LAYER}+gzip"), &gzip.finish().context("gzip")?)?;
        digests.push(layer["digest"].as_str().unwrap_or_default().to_owned());
        diff_ids.push(digest(&tar));
        layers.push(layer);
    }
    let manifest: Value = forge.image("one", &layers, &diff_ids)?;
    digests.push(manifest["digest"].as_str().unwrap_or_default().to_owned());
    Ok(digests)
}

/// Bytes that look like chance (xorshift), the same each time.
fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
