//! A registry that tampers with what passes: a proxy in front of the mirror, in the host's network.

use std::collections::HashSet;
use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;

use crate::forge::{INDEX, digest};
use crate::host::{Host, MIRROR};
use crate::http::read_head;
use crate::sandbox::enter;

/// What to do to those who pull or push.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// Change a byte of each blob.
    WrongBytes,
    /// Send half of each blob, and nothing more for a long time.
    Stall,
    /// Answer everything about manifests with this status, code and text of the distribution specification.
    Refuse(u16, &'static str, &'static str),
    /// Hang up in the middle of each blob, once.
    CutOnce,
    /// Hang up in the middle of each blob, whoever asks how often.
    CutAlways,
    /// Send those who want a blob in circles.
    Circle,
    /// Refuse each blob with an error of this many megabytes.
    Essay(usize),
    /// Send each blob in small pieces with pauses between them.
    Dribble,
    /// Hang up in the middle of each upload, once.
    CutUploads,
    /// Take half of each upload, and nothing more for a long time.
    StallUploads,
    /// Answer every upload with this status, code and text of the distribution specification.
    RefuseUploads(u16, &'static str, &'static str),
    /// Send those who want to upload in circles.
    CircleUploads,
    /// Refuse each upload with an error of this many megabytes.
    EssayUploads(usize),
    /// Say of each manifest and index that it is of this media type.
    TypedAs(&'static str),
    /// Whichever manifest or index is asked for, answer with one index, which says that it is in itself.
    Ouroboros,
}

/// The tampering registry. It listens as long as the value lives.
#[derive(Debug)]
pub struct LyingRegistry {
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: String,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    blobs: AtomicUsize,
    uploads: AtomicUsize,
    /// Blobs that dribble, and most of them that there were.
    under_way: AtomicUsize,
    most: AtomicUsize,
    /// Targets that were cut once.
    cut: Mutex<HashSet<String>>,
}

impl State {
    /// Whether this is the first time that `what` comes by.
    fn is_first(&self, what: &str) -> bool {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).insert(what.to_owned())
    }
}

impl LyingRegistry {
    /// Starts it. All that the lie is not about passes.
    ///
    /// # Errors
    /// When the host has no network of its own.
    pub fn start(host: &Host, lie: Lie) -> Result<Self> {
        let sandbox = host.sandbox()?;
        let network = Arc::new(sandbox.network()?);
        let listener =
            sandbox.in_network(|| TcpListener::bind("127.0.0.1:0"))?.context("listening")?;
        let address = listener.local_addr().context("own address")?.to_string();
        let state = Arc::new(State::default());
        let weak = Arc::downgrade(&state);
        std::thread::spawn(move || {
            // Each connection is one request: "Connection: close" is what we answer.
            for client in listener.incoming().flatten() {
                let Some(state) = weak.upgrade() else { return };
                let network = Arc::clone(&network);
                std::thread::spawn(move || {
                    enter(&network).and_then(|()| serve(client, lie, &state))
                });
            }
        });
        Ok(Self { address, state })
    }

    /// How many blobs were asked for.
    #[must_use]
    pub fn blobs(&self) -> usize {
        self.state.blobs.load(Ordering::Relaxed)
    }

    /// How many blobs were sent in small pieces at once, at most.
    #[must_use]
    pub fn most_at_once(&self) -> usize {
        self.state.most.load(Ordering::Relaxed)
    }

    /// How many requests brought bytes of a blob.
    #[must_use]
    pub fn uploads(&self) -> usize {
        self.state.uploads.load(Ordering::Relaxed)
    }
}

/// One request, read to the end of its head.
struct Asked {
    head: String,
    /// Bytes of its body.
    length: u64,
}

impl Asked {
    fn is_upload(&self) -> bool {
        let brings = self.head.starts_with("PUT") || self.head.starts_with("PATCH");
        brings && self.head.contains("/blobs/uploads/") && self.length > 0
    }

    fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn serve(mut client: TcpStream, lie: Lie, state: &State) -> Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10))).context("time limit")?;
    let mut reader = BufReader::new(client.try_clone().context("connection")?);
    let Ok(head) = read_head(&mut reader) else {
        // Somebody tries TLS first; an answer in plain HTTP tells him.
        return client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").context("refusing");
    };
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let asked = Asked { length: length.unwrap_or_default(), head };
    let is_manifest = asked.head.contains("/manifests/");
    match lie {
        Lie::Refuse(status, code, text) if is_manifest => {
            return refuse(&mut client, status, code, text);
        }
        Lie::Ouroboros if is_manifest => return ouroboros(&mut client, &asked),
        Lie::CircleUploads if asked.head.contains("/blobs/uploads/") => {
            return circle(&mut client, &asked);
        }
        Lie::EssayUploads(megabytes) if asked.head.contains("/blobs/uploads/") => {
            return essay(&mut client, megabytes);
        }
        Lie::RefuseUploads(status, code, text) if asked.head.contains("/blobs/uploads/") => {
            return refuse(&mut client, status, code, text);
        }
        _ => {}
    }
    if asked.is_upload() {
        state.uploads.fetch_add(1, Ordering::Relaxed);
        let half = &mut reader.by_ref().take(asked.length / 2);
        match lie {
            Lie::CutUploads if state.is_first(asked.target()) => {
                return std::io::copy(half, &mut std::io::sink()).map(drop).context("half");
            }
            Lie::StallUploads => {
                std::io::copy(half, &mut std::io::sink()).context("half")?;
                return wait_for_end(&mut client);
            }
            _ => {}
        }
    }
    let mut answer = BufReader::new(pass_on(&asked, &mut reader)?);
    let mut answered = read_head(&mut answer)?;
    if let Lie::TypedAs(media_type) = lie
        && is_manifest
        && let Some(told) = header(&answered, "content-type")
    {
        answered = answered.replacen(told, media_type, 1);
    }
    let is_blob = asked.head.starts_with("GET")
        && asked.head.contains("/blobs/sha")
        && (answered.contains(" 200 ") || answered.contains(" 206 "));
    let mut body = Vec::new();
    if !asked.head.starts_with("HEAD") {
        answer.read_to_end(&mut body).context("the mirror's answer")?;
    }
    if !is_blob {
        client.write_all(answered.as_bytes()).context("answering")?;
        return client.write_all(&body).context("answering");
    }
    state.blobs.fetch_add(1, Ordering::Relaxed);
    tamper(&mut client, lie, state, &asked, &answered, body)
}

/// An answer with a blob in it.
fn tamper(
    client: &mut TcpStream,
    lie: Lie,
    state: &State,
    asked: &Asked,
    answered: &str,
    mut body: Vec<u8>,
) -> Result<()> {
    match lie {
        Lie::Circle => return circle(client, asked),
        Lie::Essay(megabytes) => return essay(client, megabytes),
        Lie::WrongBytes => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
        }
        _ => {}
    }
    client.write_all(answered.as_bytes()).context("answering")?;
    let half = body.len() / 2;
    match lie {
        Lie::CutOnce if state.is_first(asked.target()) => {
            client.write_all(&body[..half]).context("half")
        }
        Lie::CutAlways => {
            // Always less, or it would come to its end some time.
            let little = if asked.header("range").is_some() { 0 } else { half };
            client.write_all(&body[..little]).context("half")
        }
        Lie::Stall => {
            client.write_all(&body[..half]).context("answering")?;
            wait_for_end(client)
        }
        Lie::Dribble => {
            let (most, last) = body.split_at(body.len() / 20 * 19);
            let under_way = state.under_way.fetch_add(1, Ordering::Relaxed) + 1;
            state.most.fetch_max(under_way, Ordering::Relaxed);
            let sent = most.chunks(body.len() / 20 + 1).try_for_each(|piece| {
                std::thread::sleep(Duration::from_millis(50));
                client.write_all(piece)
            });
            // With the last piece the client may begin with the next blob.
            state.under_way.fetch_sub(1, Ordering::Relaxed);
            sent.and_then(|()| client.write_all(last)).context("a piece")
        }
        _ => client.write_all(&body).context("answering"),
    }
}

/// Until the client leaves, or the sandbox ends.
fn wait_for_end(client: &mut TcpStream) -> Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60))).context("time limit")?;
    let mut rest = [0; 65536];
    // What still comes is what was on its way.
    while matches!(client.read(&mut rest), Ok(count) if count > 0) {}
    Ok(())
}

/// Asks the mirror the same, body and all.
fn pass_on(asked: &Asked, body: &mut impl std::io::Read) -> Result<TcpStream> {
    let mut server = TcpStream::connect(MIRROR).context("the mirror")?;
    let head = asked.head.replace("Connection: keep-alive\r\n", "").replacen(
        "\r\n\r\n",
        "\r\nConnection: close\r\n\r\n",
        1,
    );
    server.write_all(head.as_bytes()).context("asking the mirror")?;
    std::io::copy(&mut body.take(asked.length), &mut server).context("telling the mirror")?;
    Ok(server)
}

fn circle(client: &mut TcpStream, asked: &Asked) -> Result<()> {
    let head = format!(
        "HTTP/1.1 307 Round\r\nLocation: {}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        asked.target()
    );
    client.write_all(head.as_bytes()).context("redirecting")
}

/// An index cannot have its own digest in it, but a registry can give it out under the digest that is in it.
fn ouroboros(client: &mut TcpStream, asked: &Asked) -> Result<()> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let tail = json!({"mediaType": INDEX, "digest": digest(b"tail"), "size": 4,
        "platform": {"os": "linux", "architecture": architecture}});
    let body = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [tail]}).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: {INDEX}\r\nContent-Length: {}\r\nDocker-Content-Digest: {}\r\nConnection: close\r\n\r\n",
        body.len(),
        digest(body.as_bytes())
    );
    let body = if asked.head.starts_with("HEAD") { String::new() } else { body };
    client.write_all((head + &body).as_bytes()).context("answering")
}

fn essay(client: &mut TcpStream, megabytes: usize) -> Result<()> {
    let head = "HTTP/1.1 403 Essay\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
    client.write_all(head.as_bytes()).context("an essay")?;
    client.write_all(br#"{"errors":[{"code":"DENIED","message":""#).context("an essay")?;
    for _ in 0..megabytes {
        client.write_all(&vec![b'x'; 1 << 20]).context("an essay")?;
    }
    Ok(())
}

fn refuse(client: &mut TcpStream, status: u16, code: &str, text: &str) -> Result<()> {
    let body = json!({"errors": [{"code": code, "message": text}]}).to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all((head + &body).as_bytes()).context("refusing")
}
