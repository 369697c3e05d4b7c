//! A registry that tampers with what passes: a proxy in front of the mirror, in the host's network.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::{Host, MIRROR};
use crate::sandbox::enter;

/// What to do to those who pull.
#[derive(Debug, Clone, Copy)]
pub enum Lie {
    /// Change a byte of each blob.
    WrongBytes,
    /// Send half of each blob, and nothing more for a long time.
    Stall,
    /// Answer everything about manifests with this status, code and text of the distribution specification.
    Refuse(u16, &'static str, &'static str),
}

/// The tampering registry. It listens as long as the value lives.
#[derive(Debug)]
pub struct LyingRegistry {
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: String,
    blobs: Arc<AtomicUsize>,
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
        let blobs = Arc::new(AtomicUsize::new(0));
        let counter = Arc::downgrade(&blobs);
        std::thread::spawn(move || {
            // Each connection is one request: "Connection: close" is what we answer.
            for client in listener.incoming().flatten() {
                let Some(counter) = counter.upgrade() else { return };
                let network = Arc::clone(&network);
                std::thread::spawn(move || {
                    enter(&network).and_then(|()| serve(client, lie, &counter))
                });
            }
        });
        Ok(Self { address, blobs })
    }

    /// How many blobs were asked for.
    #[must_use]
    pub fn blobs(&self) -> usize {
        self.blobs.load(Ordering::Relaxed)
    }
}

fn serve(mut client: TcpStream, lie: Lie, blobs: &AtomicUsize) -> Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(10))).context("time limit")?;
    let Ok(request) = head(&mut BufReader::new(client.try_clone().context("connection")?)) else {
        // Somebody tries TLS first; an answer in plain HTTP tells him.
        return client.write_all(b"HTTP/1.0 400 Bad Request\r\n\r\n").context("refusing");
    };
    if let Lie::Refuse(status, code, text) = lie
        && request.contains("/manifests/")
    {
        return refuse(&mut client, status, code, text);
    }
    let mut server = TcpStream::connect(MIRROR).context("the mirror")?;
    let asked = request.replace("Connection: keep-alive\r\n", "").replacen(
        "\r\n\r\n",
        "\r\nConnection: close\r\n\r\n",
        1,
    );
    server.write_all(asked.as_bytes()).context("asking the mirror")?;
    let mut answer = BufReader::new(server);
    let answered = head(&mut answer)?;
    let mut body = Vec::new();
    if !request.starts_with("HEAD") {
        answer.read_to_end(&mut body).context("the mirror's answer")?;
    }
    let is_blob =
        request.starts_with("GET") && request.contains("/blobs/") && answered.contains(" 200 ");
    client.write_all(answered.as_bytes()).context("answering")?;
    if !is_blob {
        return client.write_all(&body).context("answering");
    }
    blobs.fetch_add(1, Ordering::Relaxed);
    match lie {
        Lie::WrongBytes => {
            if let Some(last) = body.last_mut() {
                *last ^= 1;
            }
            client.write_all(&body).context("answering")
        }
        Lie::Stall => {
            client.write_all(&body[..body.len() / 2]).context("answering")?;
            // Until the client leaves, or the sandbox ends.
            let _ = client.set_read_timeout(Some(Duration::from_secs(60)));
            let _ = client.read(&mut [0]);
            Ok(())
        }
        Lie::Refuse(..) => client.write_all(&body).context("answering"),
    }
}

fn refuse(client: &mut TcpStream, status: u16, code: &str, text: &str) -> Result<()> {
    let body = serde_json::json!({"errors": [{"code": code, "message": text}]}).to_string();
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} Refused\r\nContent-Type: application/json\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
    );
    client.write_all((head + &body).as_bytes()).context("refusing")
}

fn head(reader: &mut impl std::io::BufRead) -> Result<String> {
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") {
        if reader.by_ref().read_line(&mut text).context("reading a head")? == 0 {
            anyhow::bail!("no head");
        }
    }
    Ok(text)
}
