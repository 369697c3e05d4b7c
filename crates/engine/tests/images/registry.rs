//! A registry in memory, which can lie and stall.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;

use super::content::Content;

/// What is wrong with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The next so many downloads have a changed byte.
    Lies(u32),
    /// Half of it comes, then nothing more.
    Stalls,
}

/// A running registry. It listens until dropped.
pub(crate) struct Registry {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    content: Content,
    /// `repository:tag` → digest.
    tags: HashMap<String, String>,
    faults: HashMap<String, Fault>,
    downloads: HashMap<String, usize>,
    ended: bool,
}

impl Registry {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.lock().unwrap().ended {
                    return;
                }
                let shared = Arc::clone(&shared);
                thread::spawn(move || serve(&stream, &shared));
            }
        });
        Self { address, state }
    }

    /// Adds content under names (`app:1`).
    pub(crate) fn publish(&self, content: &Content, names: &[(&str, &str)]) {
        let mut state = self.state.lock().unwrap();
        state.content.blobs.extend(content.blobs.clone());
        state.content.manifests.extend(content.manifests.clone());
        state
            .tags
            .extend(names.iter().map(|(name, digest)| ((*name).to_owned(), (*digest).to_owned())));
    }

    pub(crate) fn fault(&self, digest: &str, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        match fault {
            Some(fault) => state.faults.insert(digest.to_owned(), fault),
            None => state.faults.remove(digest),
        };
    }

    /// How often a blob was asked for.
    pub(crate) fn downloads(&self, digest: &str) -> usize {
        self.state.lock().unwrap().downloads.get(digest).copied().unwrap_or(0)
    }

    /// A full reference to an image in it.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.address)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.state.lock().unwrap().ended = true;
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

/// One connection. A TLS greeting is no HTTP and ends it.
fn serve(stream: &TcpStream, state: &Mutex<State>) {
    let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
    while let Some(first) = lines.next() {
        let range = lines
            .by_ref()
            .take_while(|line| !line.is_empty())
            .filter_map(|line| {
                line.to_lowercase()
                    .strip_prefix("range: bytes=")?
                    .strip_suffix('-')?
                    .parse::<usize>()
                    .ok()
            })
            .last();
        let mut words = first.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return };
        if answer(stream, state, method, target, range.unwrap_or(0)).is_err() {
            return;
        }
    }
}

fn answer(
    mut stream: &TcpStream,
    state: &Mutex<State>,
    method: &str,
    target: &str,
    from: usize,
) -> std::io::Result<()> {
    let (media_type, body, stalls) = look_up(&mut state.lock().unwrap(), target);
    let Some(body) = body else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n");
    };
    let digest = super::content::digest(&body);
    let rest = &body[from..];
    let status = if from == 0 { "200 OK" } else { "206 Partial Content" };
    let head = format!(
        "HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ndocker-content-digest: {digest}\r\n\
         content-range: bytes {from}-{}/{}\r\ncontent-length: {}\r\n\r\n",
        body.len() - 1,
        body.len(),
        rest.len()
    );
    stream.write_all(head.as_bytes())?;
    match (method, stalls) {
        ("HEAD", _) => Ok(()),
        (_, true) => stream.write_all(&rest[..rest.len() / 2]),
        (_, false) => stream.write_all(rest),
    }
}

/// Media type, bytes, and whether they stall.
fn look_up(state: &mut State, target: &str) -> (&'static str, Option<Vec<u8>>, bool) {
    let path = target.trim_start_matches("/v2/");
    if let Some((repository, reference)) = path.split_once("/manifests/") {
        let digest =
            state.tags.get(&format!("{repository}:{reference}")).map_or(reference, String::as_str);
        return match state.content.manifests.get(digest) {
            Some((media_type, bytes)) => (media_type, Some(bytes.clone()), false),
            None => ("", None, false),
        };
    }
    let Some((_, digest)) = path.split_once("/blobs/") else { return ("", None, false) };
    *state.downloads.entry(digest.to_owned()).or_default() += 1;
    let mut bytes = state.content.blobs.get(digest).cloned();
    let mut stalls = false;
    match state.faults.get_mut(digest) {
        Some(Fault::Lies(left)) if *left > 0 => {
            *left -= 1;
            if let Some(byte) = bytes.iter_mut().flatten().next() {
                *byte ^= 1;
            }
        }
        Some(Fault::Stalls) => stalls = true,
        _ => {}
    }
    ("application/octet-stream", bytes, stalls)
}
