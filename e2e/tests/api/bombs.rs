//! Archives and layers that are more than they seem: larger than the disk, endless headers, lies about sizes, links out of
//! the archive. Memory stays bounded, the refusal says why, and nothing stays.

use std::process::Command;
use std::time::Duration;

use e2e::api::{encode, pull_messages};
use e2e::forge::{Forge, LAYER};
use e2e::http::Response;
use e2e::sandbox::until;
use e2e::{Api, Context as _, Host, Result, Rig, Test, ensure, tests};
use serde_json::json;

use crate::garbage::nothing_left;
use crate::registries::{failure, peak};
use crate::{import, store};

pub(crate) const TESTS: &[Test] =
    tests![a_full_disk_is_told.ours_only(), archives_that_lead_astray.ours_only()];

/// Bytes of memory that the daemon may have had at its worst.
const MEMORY: u64 = 64 << 20;

/// A layer of zeros, as gzip makes it small.
struct Bomb {
    gzip: Vec<u8>,
    diff_id: String,
}

impl Bomb {
    /// 64 MiB in one file: more than the small disk has.
    fn new() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let script =
            "truncate -s 64M zeros && tar -cf bomb zeros && sha256sum < bomb && gzip -1 bomb";
        let made = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output()?;
        ensure!(made.status.success(), "{made:?}");
        let sum: String = String::from_utf8_lossy(&made.stdout).chars().take(64).collect();
        let gzip = std::fs::read(folder.path().join("bomb.gz"))?;
        Ok(Self { gzip, diff_id: format!("sha256:{sum}") })
    }

    /// As Docker wrote it before OCI layouts.
    fn archive(&self) -> Result<Vec<u8>> {
        let config = json!({
            "architecture": std::env::consts::ARCH.replace("x86_64", "amd64").replace("aarch64", "arm64"),
            "os": "linux", "rootfs": {"type": "layers", "diff_ids": [self.diff_id]},
        });
        let manifest = json!([{"Config": "c.json", "RepoTags": ["bomb:1"], "Layers": ["l.tar"]}]);
        store::archive(&[
            ("c.json", config.to_string().into_bytes()),
            ("l.tar", self.gzip.clone()),
            ("manifest.json", manifest.to_string().into_bytes()),
        ])
    }
}

/// Gives containerd a disk of its own, of a few megabytes.
fn with_a_small_disk(host: &Host) -> Result<()> {
    host.kill_daemon()?;
    host.kill_containerd()?;
    let disk = host.root()?.join("containerd");
    std::fs::create_dir_all(&disk)?;
    let sandbox = host.sandbox()?;
    let mut mount = sandbox.command("mount");
    sandbox.run(mount.args(["-t", "tmpfs", "-o", "size=48m", "disk"]).arg(disk))?;
    host.start_containerd()?;
    host.start_daemon()
}

/// Nothing stays of what filled the disk, be it known to containerd or not.
fn is_free(host: &Host) -> Result<()> {
    nothing_left(host)?;
    let disk = host.sandbox()?.inside(&host.root()?.join("containerd").to_string_lossy());
    until(Duration::from_secs(30), "the disk is free", || {
        rustix::fs::statvfs(&disk).is_ok_and(|disk| disk.f_bfree * 10 > disk.f_blocks * 9)
    })
}

/// Why a request failed, before its answer or in it.
fn refusal(answer: &Response) -> Result<String> {
    match answer.status() {
        200 => Ok(pull_messages(answer).err().context("it went well")?.to_string()),
        status => {
            ensure!((400..600).contains(&status), "{status}");
            Ok(answer.message())
        }
    }
}

fn send(api: &Api, method: &str, path: &str, body: Vec<u8>) -> Result<Response> {
    api.send(&api.request(method, path).bytes(body))
}

fn a_full_disk_is_told(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    let bomb = Bomb::new()?;
    rig.with_own_host(
        |_| (),
        |host| {
            with_a_small_disk(host)?;
            let api = host.api();
            let is_full = |what: &str, told: &str| -> Result<()> {
                ensure!(told.to_lowercase().contains("no space left on device"), "{what}: {told}");
                Ok(())
            };
            let forge = Forge::new(host, "bomb");
            let layer = forge.blob(&format!("{LAYER}+gzip"), &bomb.gzip)?;
            forge.image("one", &[layer], std::slice::from_ref(&bomb.diff_id))?;
            is_full("pull", &failure(host, &forge.reference("one"))?)?;
            is_free(host).context("pull")?;

            let archive = bomb.archive()?;
            is_full("load", &refusal(&send(&api, "POST", "/images/load", archive)?)?)?;
            is_free(host).context("load")?;
            // The archive itself unpacks to that: a file in it that is not compressed any more.
            let whole = refusal(&send(&api, "POST", "/images/load", bomb.gzip.clone())?)?;
            is_full("load of what is packed", &whole)?;
            is_free(host).context("load of what is packed")?;

            let import = "/images/create?fromSrc=-";
            is_full("import", &refusal(&send(&api, "POST", import, bomb.gzip.clone())?)?)?;
            is_free(host).context("import")?;

            // And there is room for all that is no bomb.
            let named = format!("{import}&repo=small&tag=1");
            pull_messages(&send(&api, "POST", &named, import::tree()?)?.expect(200)?)?;
            let container = api.create(json!({"Image": "small:1", "Cmd": ["/bin/echo"]}))?;
            let path = container.path("/archive?path=/");
            is_full("copy", &refusal(&send(&api, "PUT", &path, bomb.gzip.clone())?)?)?;
            container.remove()?;
            api.delete("/images/small:1")?.expect(200)?;
            is_free(host).context("copy")?;
            let peak = peak(host)?;
            ensure!(peak < MEMORY, "{peak} bytes of memory");
            Ok(())
        },
    )
}

/// One entry as it is written, with a size that may be a lie.
fn entry(kind: u8, name: &str, link: &str, size: u64, content: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_entry_type(tar::EntryType::new(kind));
    header.set_mode(0o644);
    header.set_size(size);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &[u8]) -> Vec<u8> {
    entry(b'0', name, "", content.len() as u64, content)
}

fn archives_that_lead_astray(rig: &Rig) -> Result<()> {
    crate::needs_rig(rig.host()?)?;
    const HUGE: u64 = 1 << 32;
    let manifest = br#"[{"Config":"c.json","RepoTags":["astray:1"],"Layers":["l.tar"]}]"#;
    let config = br#"{"architecture":"amd64","os":"linux","rootfs":{"diff_ids":[]}}"#;
    let with = |more: &[Vec<u8>]| [file("manifest.json", manifest), more.concat()].concat();
    let many = file("x", b"").repeat(20_001);
    let none = "unrecognized image format";
    // More than waits for the store: it is refused before the archive ends.
    let long = vec![b'['; 4 << 20];
    let rows: &[(&str, Vec<u8>, &str)] = &[
        ("a name without end", entry(b'L', "x", "", HUGE, b"x"), "header field too long"),
        ("a link without end", entry(b'K', "x", "", HUGE, b"x"), "header field too long"),
        ("records without end", entry(b'x', "x", "", HUGE, b"x"), "header field too long"),
        ("records for all without end", entry(b'g', "x", "", HUGE, b"x"), "unexpected EOF"),
        ("entries without end", many, "more than 20000 entries"),
        (
            "a huge manifest",
            entry(b'0', "manifest.json", "", HUGE, &long),
            "manifest.json has 4294967296 bytes",
        ),
        (
            "a huge index",
            entry(b'0', "index.json", "", HUGE, &long),
            "index.json has 4294967296 bytes",
        ),
        (
            "a huge layout",
            entry(b'0', "oci-layout", "", HUGE, &long),
            "oci-layout has 4294967296 bytes",
        ),
        ("a huge blob that is cut", entry(b'0', "l.tar", "", HUGE, b"x"), "unexpected EOF"),
        ("a manifest elsewhere", entry(b'2', "manifest.json", "/etc/passwd", 0, b""), none),
        ("a manifest that is a link", entry(b'1', "manifest.json", "../x", 0, b""), none),
        ("a manifest that is a device", entry(b'3', "manifest.json", "", 0, b""), none),
        ("a manifest that is a pipe", entry(b'6', "manifest.json", "", 0, b""), none),
        ("a manifest from the root", file("/manifest.json", manifest), none),
        ("a manifest above", file("../manifest.json", manifest), none),
        (
            "a config that leads out",
            with(&[entry(b'2', "c.json", "../../etc/passwd", 0, b"")]),
            "\"c.json\" not found",
        ),
        (
            "a config in circles",
            with(&[entry(b'2', "c.json", "c.json", 0, b"")]),
            "\"c.json\" not found",
        ),
        (
            "a layer that leads out",
            with(&[file("c.json", config), entry(b'1', "l.tar", "/etc/passwd", 0, b"")]),
            "layer \"l.tar\" not found",
        ),
        (
            "a layer that is a device",
            with(&[file("c.json", config), entry(b'4', "l.tar", "", 0, b"")]),
            "layer \"l.tar\" not found",
        ),
        (
            "a layer that the config does not know",
            with(&[file("c.json", config), file("l.tar", &[0; 1024])]),
            "1 layers, the config 0 diffIDs",
        ),
        (
            "a config that is a manifest as well",
            with(&[
                file("c.json", br#"{"rootfs":{"diff_ids":[]},"layers":[]}"#),
                file("l.tar", &[0; 1024]),
            ]),
            "it is a manifest or index as well",
        ),
    ];
    rig.with_own_host(
        |_| (),
        |host| {
            let api = host.api();
            for (what, archive, words) in rows {
                let told = refusal(&send(&api, "POST", "/images/load", archive.clone())?)
                    .with_context(|| (*what).to_owned())?;
                ensure!(told.contains(words), "{what}: {told}");
            }
            nothing_left(host)?;
            let name = encode("astray:1");
            api.get(&format!("/images/{name}/json"))?.expect_error(404)?;
            let peak = peak(host)?;
            ensure!(peak < MEMORY, "{peak} bytes of memory");
            Ok(())
        },
    )
}
