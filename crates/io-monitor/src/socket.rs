//! The monitor's Unix socket: who connects, what they ask, what they are answered.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use bytes::BytesMut;
use tokio::net::{UnixListener, UnixStream};

use crate::clients::Client;
use crate::frames::{self, AttachRequest, Attached, DrainRequest, Frame, Kind, Malformed};
use crate::monitor::Shared;

/// A bound socket; removes its file when dropped.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listen on `path`, for our user only. A socket file that nobody listens on is replaced.
    pub(crate) fn bind(path: &Path) -> io::Result<Self> {
        if let Some(dir) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        }
        if std::os::unix::net::UnixStream::connect(path).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another monitor listens there"));
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned() })
    }

    /// Serve whoever comes, until dropped; connections go on after that.
    pub(crate) async fn serve(self, shared: Rc<Shared>) {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) if shared.clients.may_connect() => {
                    tokio::task::spawn_local(serve_client(stream, Rc::clone(&shared)));
                }
                Ok(_) => {}
                // Out of descriptors, most likely; it must not become a busy loop.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // A socket file that stays is replaced by the next monitor.
        let _ = fs::remove_file(&self.path);
    }
}

async fn serve_client(stream: UnixStream, shared: Rc<Shared>) {
    let client = Rc::new(Client::new());
    client.outbox.push_json(Kind::Hello, &shared.hello());
    if let Some(end) = shared.ended() {
        client.outbox.push_json(Kind::End, &end);
    }
    shared.clients.add(Rc::clone(&client));
    tokio::select! {
        // Either way the connection ends, and there is nobody to tell why.
        _ = client.outbox.send_all(&stream, || shared.took(&client)) => {}
        _ = listen(&stream, &client, &shared) => {}
    }
    shared.clients.remove(&client);
}

/// Follow a client's requests until it goes, or says something that is no frame.
async fn listen(stream: &UnixStream, client: &Client, shared: &Shared) -> io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        while let Some(frame) = frames::take(&mut buffer).map_err(io::Error::other)? {
            if frame.kind == Kind::Attach && !shared.clients.may_attach() {
                return Ok(());
            }
            follow(&frame, client, shared).await.map_err(io::Error::other)?;
        }
        stream.readable().await?;
        match stream.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn follow(frame: &Frame, client: &Client, shared: &Shared) -> Result<(), Malformed> {
    match frame.kind {
        Kind::Attach => {
            let request: AttachRequest = frame.json()?;
            attach(&request, client, shared);
        }
        Kind::Stdin => shared.stdin.write(&frame.payload).await,
        Kind::CloseStdin => client.outbox.push_json(Kind::StdinClosed, &shared.stdin.close()),
        Kind::Started => client.outbox.push_json(Kind::StartedReply, &shared.start()),
        Kind::Drain => {
            let request: DrainRequest = frame.json()?;
            match shared.drained() {
                Some(drained) => client.outbox.push_json(Kind::Drained, &drained),
                None => {
                    client.wait_for_drained();
                    shared.drain(request.grace_ms);
                }
            }
        }
        Kind::Stats => client.outbox.push_json(Kind::StatsReply, &shared.stats()),
        // What only a monitor says.
        _ => {}
    }
    Ok(())
}

fn attach(request: &AttachRequest, client: &Client, shared: &Shared) {
    // The answer first, then the begun lines, then whatever comes; nothing can come in between.
    let mut output = shared.output.borrow_mut();
    client.outbox.push_json(Kind::Attached, &Attached { log: output.log_mark() });
    if shared.ended().is_some() {
        client.outbox.close();
        return;
    }
    client.attach(*request);
    output.catch_up(client);
}
