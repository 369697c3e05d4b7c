//! A server that answers as the test says, and remembers what it was asked.

use std::io::{BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::plain_http::Message;

/// An answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    fate: Fate,
}

/// What happens to the body.
#[derive(Clone, Copy, Debug, Default)]
enum Fate {
    #[default]
    Whole,
    /// The connection ends after so many bytes of it.
    CutAfter(usize),
    /// It comes in small pieces with pauses.
    Slowly,
    /// The connection ends without an answer.
    Silence,
    /// Nothing more comes after so many bytes of it, and the connection stays.
    StallAfter(usize),
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn cut_after(mut self, bytes: usize) -> Self {
        self.fate = Fate::CutAfter(bytes);
        self
    }

    pub(crate) fn stall_after(mut self, bytes: usize) -> Self {
        self.fate = Fate::StallAfter(bytes);
        self
    }

    /// At some megabytes a second.
    pub(crate) fn slowly(mut self) -> Self {
        self.fate = Fate::Slowly;
        self
    }

    /// No answer at all.
    pub(crate) fn none() -> Self {
        Self { fate: Fate::Silence, ..Self::default() }
    }

    /// The part of `whole` that a request asks for.
    pub(crate) fn range(whole: &[u8], request: &Message) -> Self {
        let start = request.header("range").and_then(|range| {
            let (start, end) = range.strip_prefix("bytes=")?.split_once('-')?;
            let last = end.parse().unwrap_or(whole.len() - 1);
            Some((start.parse::<usize>().ok()?, last))
        });
        match start {
            None => Self::new(200, whole),
            Some((start, last)) => Self::new(206, &whole[start..=last])
                .header("content-range", format!("bytes {start}-{last}/{}", whole.len())),
        }
    }
}

type Script = dyn Fn(&Message) -> Reply + Send + Sync;

/// A running server. It listens until dropped.
pub(crate) struct Scripted {
    /// `127.0.0.1:port`.
    pub(crate) address: String,
    shared: Arc<Shared>,
}

struct Shared {
    requests: Mutex<Vec<Message>>,
    connections: AtomicUsize,
    ended: AtomicBool,
}

impl Scripted {
    pub(crate) fn start(script: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            connections: AtomicUsize::new(0),
            ended: AtomicBool::new(false),
        });
        let (script, seen): (Arc<Script>, _) = (Arc::new(script), Arc::clone(&shared));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if seen.ended.load(Ordering::SeqCst) {
                    return;
                }
                let (script, seen) = (Arc::clone(&script), Arc::clone(&seen));
                thread::spawn(move || serve(&stream, &*script, &seen));
            }
        });
        Self { address, shared }
    }

    /// A reference to an image in it.
    pub(crate) fn image(&self, rest: &str) -> names::ImageRef {
        format!("{}/{rest}", self.address).parse().unwrap()
    }

    /// All requests so far.
    pub(crate) fn requests(&self) -> Vec<Message> {
        self.shared.requests.lock().unwrap().clone()
    }

    /// The requests whose target starts so.
    pub(crate) fn requests_to(&self, prefix: &str) -> Vec<Message> {
        self.requests().into_iter().filter(|request| request.target().starts_with(prefix)).collect()
    }

    /// Connections on which HTTP was spoken.
    pub(crate) fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Scripted {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(&self.address);
    }
}

fn serve(stream: &TcpStream, script: &Script, shared: &Shared) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = true;
    // A TLS greeting is no HTTP: the connection is closed, as many servers do.
    while let Ok(Some(request)) = Message::read(&mut reader) {
        if !request.first.contains(" HTTP/1.") {
            return;
        }
        if std::mem::take(&mut first) {
            shared.connections.fetch_add(1, Ordering::SeqCst);
        }
        shared.requests.lock().unwrap().push(request.clone());
        let reply = script(&request);
        if !answer(stream, &request, &reply) {
            let _ = stream.shutdown(Shutdown::Both);
            return;
        }
    }
}

/// Whether the connection goes on.
fn answer(mut stream: &TcpStream, request: &Message, reply: &Reply) -> bool {
    if matches!(reply.fate, Fate::Silence) {
        return false;
    }
    let mut head = format!("HTTP/1.1 {} Scripted\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| name == "content-length") {
        head.push_str(&format!("content-length: {}\r\n", reply.body.len()));
    }
    for (name, value) in &reply.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let sent = match reply.fate {
        Fate::Whole | Fate::Slowly | Fate::Silence => &reply.body[..],
        Fate::CutAfter(bytes) | Fate::StallAfter(bytes) => &reply.body[..bytes],
    };
    let body = if request.method() == "HEAD" { &[] } else { sent };
    let written = stream.write_all(format!("{head}\r\n").as_bytes()).and_then(|()| {
        if !matches!(reply.fate, Fate::Slowly) {
            return stream.write_all(body);
        }
        body.chunks(16 * 1024).try_for_each(|piece| {
            thread::sleep(std::time::Duration::from_millis(1));
            stream.write_all(piece)
        })
    });
    written.is_ok() && !matches!(reply.fate, Fate::CutAfter(_))
}
