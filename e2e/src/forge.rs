//! Images made by hand, straight into the mirror of a host: what no client would make, and some that clients do.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use sha2::Digest as _;

use crate::host::{Host, MIRROR};

/// Media type of manifests.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of indexes.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of configs.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer that is not compressed; `+gzip` and `+zstd` may follow.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// A repository of the mirror that is written by hand.
#[derive(Debug)]
pub struct Forge<'a> {
    host: &'a Host,
    repository: String,
}

impl<'a> Forge<'a> {
    /// The repository of this name.
    #[must_use]
    pub fn new(host: &'a Host, repository: &str) -> Self {
        Self { host, repository: repository.to_owned() }
    }

    /// A reference to a tag in it.
    #[must_use]
    pub fn reference(&self, tag: &str) -> String {
        format!("{MIRROR}/{}:{tag}", self.repository)
    }

    /// Stores a blob and answers with its descriptor.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Result<Value> {
        let digest = digest(bytes);
        let begun =
            self.send("POST", &format!("/v2/{}/blobs/uploads/", self.repository), "", b"")?;
        let location = begun
            .lines()
            .find_map(|line| line.strip_prefix("Location: "))
            .with_context(|| begun.clone())?;
        let path = location.split_once(MIRROR).map_or(location, |(_, path)| path);
        let done = self.send("PUT", &format!("{path}&digest={digest}"), "", bytes)?;
        ensure!(done.contains(" 201 "), "{done}");
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }

    /// Stores a manifest or index under a tag and answers with its descriptor.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn document(&self, tag: &str, media_type: &str, document: &Value) -> Result<Value> {
        let bytes = document.to_string();
        let path = format!("/v2/{}/manifests/{tag}", self.repository);
        let done = self.send("PUT", &path, media_type, bytes.as_bytes())?;
        ensure!(done.contains(" 201 "), "{done}");
        let digest = digest(bytes.as_bytes());
        Ok(json!({"mediaType": media_type, "digest": digest, "size": bytes.len()}))
    }

    /// Stores an image of these layers, whose config says these diff ids, under a tag.
    ///
    /// # Errors
    /// When the registry does not take it.
    pub fn image(&self, tag: &str, layers: &[Value], diff_ids: &[String]) -> Result<Value> {
        let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
        let config = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}});
        let config = self.blob(CONFIG, config.to_string().as_bytes())?;
        let manifest =
            json!({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers});
        self.document(tag, MANIFEST, &manifest)
    }

    fn send(&self, method: &str, path: &str, media_type: &str, body: &[u8]) -> Result<String> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: {MIRROR}\r\nConnection: close\r\nContent-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.host.sandbox()?.in_network(|| {
            let mut stream = TcpStream::connect(MIRROR).context("the mirror")?;
            stream.write_all(head.as_bytes()).context("a request")?;
            stream.write_all(body).context("a request's body")?;
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).context("an answer")?;
            Ok(String::from_utf8_lossy(&answer).replace("\r\n", "\n"))
        })?
    }
}

/// The SHA-256 digest of `bytes`.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let sum = sha2::Sha256::digest(bytes);
    sum.iter().fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}

/// A tar of one file.
///
/// # Errors
/// None in practice: it is made in memory.
pub fn tar(name: &str, content: &[u8]) -> Result<Vec<u8>> {
    let mut header = tar::Header::new_ustar();
    header.set_mode(0o644);
    header.set_size(content.len() as u64);
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_data(&mut header, name, content).context("a tar")?;
    archive.into_inner().context("a tar")
}

/// The bytes as a zstd frame that does not compress them (RFC 8878 §3.1.1).
#[must_use]
pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    const BLOCK: usize = 64 * 1024;
    let size = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend_from_slice(&size.to_le_bytes());
    let count = bytes.chunks(BLOCK).count();
    for (at, block) in bytes.chunks(BLOCK).enumerate() {
        let last = u32::from(at + 1 == count);
        let length = u32::try_from(block.len()).unwrap_or_default();
        frame.extend_from_slice(&(length << 3 | last).to_le_bytes()[..3]);
        frame.extend_from_slice(block);
    }
    frame
}
