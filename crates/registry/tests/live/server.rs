//! A real registry, started for one test and stopped with it.

use std::fs;
use std::io::{self, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use names::Digest;
use sha2::Digest as _;
use tempfile::TempDir;

use super::plain_http::send;

const BINARY: &str = "/usr/bin/docker-registry";

/// A running registry with a folder of its own.
pub(crate) struct Server {
    directory: TempDir,
    process: Child,
    /// `127.0.0.1:port`.
    pub(crate) address: String,
}

/// What protects it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Door {
    Open,
    /// User `ann`, password `secret`.
    Password,
    /// TLS with a certificate that only `ca.pem` in its folder vouches for.
    Tls,
}

/// An image in it.
pub(crate) struct Pushed {
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: Digest,
    pub(crate) layer: Vec<u8>,
    pub(crate) layer_digest: Digest,
}

/// The media type of the manifests that are pushed.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl Server {
    /// Starts one, or says why not.
    pub(crate) fn start(test: &str, door: Door) -> Option<Self> {
        if !Path::new(BINARY).exists() {
            skip(test, &format!("there is no {BINARY}"));
            return None;
        }
        let directory = tempfile::Builder::new().prefix("reg").tempdir().unwrap();
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\n\
             storage:\n  filesystem:\n    rootdirectory: {}\n",
            directory.path().join("data").display()
        );
        match door {
            Door::Open => {}
            Door::Password => config.push_str(&password(test, directory.path())?),
            Door::Tls => {}
        }
        let tls =
            if door == Door::Tls { certificate(test, directory.path())? } else { String::new() };
        // Another program may take the port between our look and the registry's start.
        for _ in 0..10 {
            let address = free_address();
            let config = format!("{config}http:\n  addr: {address}\n{tls}");
            let path = directory.path().join("config.yml");
            fs::write(&path, config).unwrap();
            let mut process = Command::new(BINARY)
                .arg("serve")
                .arg(&path)
                .env("OTEL_TRACES_EXPORTER", "none")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if listens(&address, &mut process) {
                return Some(Self { directory, process, address });
            }
        }
        panic!("docker-registry does not start");
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A reference to an image in it.
    pub(crate) fn image(&self, rest: &str) -> names::ImageRef {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// Puts an image of one layer into it, under each of the tags.
    pub(crate) fn push(&self, repository: &str, tags: &[&str], headers: &[(&str, &str)]) -> Pushed {
        let layer: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
        let layer_digest = self.push_blob(repository, headers, &layer);
        let config = br#"{"architecture":"amd64","os":"linux"}"#;
        let config_digest = self.push_blob(repository, headers, config);
        let manifest = format!(
            r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config_digest}","size":{}}},"layers":[{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{layer_digest}","size":{}}}]}}"#,
            config.len(),
            layer.len()
        )
        .into_bytes();
        for tag in tags {
            let target = format!("/v2/{repository}/manifests/{tag}");
            let all: Vec<_> = headers.iter().copied().chain([("Content-Type", MANIFEST)]).collect();
            assert_eq!(send(&self.address, "PUT", &target, &all, &manifest).status(), 201);
        }
        Pushed { digest: digest(&manifest), manifest, layer, layer_digest }
    }

    fn push_blob(&self, repository: &str, headers: &[(&str, &str)], bytes: &[u8]) -> Digest {
        let digest = digest(bytes);
        let begun =
            send(&self.address, "POST", &format!("/v2/{repository}/blobs/uploads/"), headers, b"");
        assert_eq!(begun.status(), 202);
        let location = begun.header("location").unwrap();
        let target = location.strip_prefix(&format!("http://{}", self.address)).unwrap_or(location);
        let done = send(&self.address, "PUT", &format!("{target}&digest={digest}"), headers, bytes);
        assert_eq!(done.status(), 201);
        digest
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn digest(bytes: &[u8]) -> Digest {
    Digest::from_sha256(sha2::Sha256::digest(bytes).into())
}

fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

fn listens(address: &str, process: &mut Child) -> bool {
    while TcpStream::connect(address).is_err() {
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        thread::sleep(Duration::from_millis(20));
    }
    true
}

fn password(test: &str, directory: &Path) -> Option<String> {
    let made = Command::new("htpasswd").args(["-Bbn", "ann", "secret"]).output();
    let Ok(made) = made else {
        skip(test, "there is no htpasswd");
        return None;
    };
    let path = directory.join("htpasswd");
    fs::write(&path, made.stdout).unwrap();
    Some(format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display()))
}

fn certificate(test: &str, directory: &Path) -> Option<String> {
    let (certificate, key) = (directory.join("ca.pem"), directory.join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args(["-subj", "/CN=test", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&certificate)
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        skip(test, "there is no usable openssl");
        return None;
    }
    Some(format!(
        "  tls:\n    certificate: {}\n    key: {}\n",
        certificate.display(),
        key.display()
    ))
}

/// Says that a test did not run. Not with `eprintln!`, which the test harness swallows.
pub(crate) fn skip(test: &str, reason: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: {reason}");
}
