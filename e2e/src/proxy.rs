//! An HTTP proxy in a host's network, which tells what went through it.

use std::io::{BufReader, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::host::Host;
use crate::http::read_head;
use crate::sandbox::enter;

/// The proxy. It listens as long as the value lives.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens: `127.0.0.1:PORT`.
    pub address: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

/// What somebody wanted of the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// `CONNECT` for a tunnel; for plain HTTP the request's own.
    pub method: String,
    /// `host:port` of a tunnel, else the whole address.
    pub target: String,
    /// What it was told of who asks.
    pub authorization: Option<String>,
}

impl Proxy {
    /// Starts one that serves who comes with this `Proxy-Authorization`, or everybody.
    ///
    /// # Errors
    /// When the host has no network of its own.
    pub fn start(host: &Host, authorization: Option<&'static str>) -> Result<Self> {
        let sandbox = host.sandbox()?;
        let network = Arc::new(sandbox.network()?);
        let listener =
            sandbox.in_network(|| TcpListener::bind("127.0.0.1:0"))?.context("listening")?;
        let address = listener.local_addr().context("own address")?.to_string();
        let hosts = sandbox.inside("/etc/hosts");
        let asked = Arc::new(Mutex::new(Vec::new()));
        let weak = Arc::downgrade(&asked);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Some(asked) = weak.upgrade() else { return };
                let (network, hosts) = (Arc::clone(&network), hosts.clone());
                std::thread::spawn(move || {
                    enter(&network).and_then(|()| serve(&client, authorization, &hosts, &asked))
                });
            }
        });
        Ok(Self { address, asked })
    }

    /// What it was asked so far; forgotten then.
    #[must_use]
    pub fn take_asked(&self) -> Vec<Asked> {
        std::mem::take(&mut self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// One tunnel, or one plain request.
fn serve(
    mut client: &TcpStream,
    wanted: Option<&str>,
    hosts: &Path,
    log: &Mutex<Vec<Asked>>,
) -> Result<()> {
    client.set_read_timeout(Some(Duration::from_secs(60))).context("time limit")?;
    let mut reader = BufReader::new(client);
    let head = read_head(&mut reader)?;
    let mut words = head.split(' ');
    let asked = Asked {
        method: words.next().unwrap_or_default().to_owned(),
        target: words.next().unwrap_or_default().to_owned(),
        authorization: header(&head, "proxy-authorization"),
    };
    let known = wanted.is_none() || asked.authorization.as_deref() == wanted;
    log.lock().unwrap_or_else(PoisonError::into_inner).push(asked.clone());
    if !known {
        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
        return client.write_all(refusal.as_bytes()).context("refusing");
    }
    if asked.method == "CONNECT" {
        let server = connect(hosts, &asked.target)?;
        client.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").context("a tunnel")?;
        return both_ways(client, &server);
    }
    let rest = asked.target.strip_prefix("http://").context("not plain HTTP")?;
    let (place, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut server = connect(hosts, place)?;
    let lines = head.lines().skip(1).filter(|line| {
        let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
        !line.is_empty() && !matches!(name.as_str(), "proxy-authorization" | "connection")
    });
    let mut passed = format!("{} /{path} HTTP/1.1\r\n", asked.method);
    lines.for_each(|line| passed.push_str(&format!("{line}\r\n")));
    passed.push_str("Connection: close\r\n\r\n");
    server.write_all(passed.as_bytes()).context("passing on")?;
    let length = header(&head, "content-length").and_then(|length| length.parse().ok());
    let mut body = reader.by_ref().take(length.unwrap_or(0));
    std::io::copy(&mut body, &mut server).context("passing on")?;
    std::io::copy(&mut server, &mut client).context("answering")?;
    Ok(())
}

/// Connects to `host:port`, where the host may be a name of the sandbox's hosts file, which this process does not see.
fn connect(hosts: &Path, target: &str) -> Result<TcpStream> {
    let text = std::fs::read_to_string(hosts).context("the hosts file")?;
    let (name, port) = target.rsplit_once(':').context("no port")?;
    let known = text.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        words.any(|word| word == name).then(|| address.to_owned())
    });
    let address = known.unwrap_or_else(|| name.to_owned());
    TcpStream::connect(format!("{address}:{port}")).with_context(|| target.to_owned())
}

fn both_ways(client: &TcpStream, server: &TcpStream) -> Result<()> {
    std::thread::scope(|scope| {
        let pass = |mut from: &TcpStream, mut to: &TcpStream| {
            // Its end is told, however it comes.
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Write);
        };
        scope.spawn(move || pass(client, server));
        pass(server, client);
    });
    Ok(())
}

fn header(head: &str, name: &str) -> Option<String> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines
        .find(|(known, _)| known.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.trim().to_owned())
}
