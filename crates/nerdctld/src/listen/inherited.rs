//! Sockets that systemd opened for us (`fd://`, `sd_listen_fds(3)`).
//!
//! systemd made them, so their files, modes and groups are its business: see `nerdctl.socket`.

use std::io;

use listenfd::ListenFd;
use rustix::io::FdFlags;
use tokio::net::UnixListener;

use super::{ListenError, Listener, Socket};

/// The number of the first passed descriptor (`SD_LISTEN_FDS_START`).
const FIRST: usize = 3;

/// What systemd passed; each socket can be taken once.
pub(crate) struct Inherited(ListenFd);

impl Inherited {
    /// What `LISTEN_FDS` says, if `LISTEN_PID` means us.
    pub(crate) fn from_environment() -> Self {
        Self(ListenFd::from_env())
    }

    /// Take one socket, or all that are left. Must be called inside the runtime.
    ///
    /// # Errors
    /// There are none, there is none with that number, or it is of another kind.
    pub(crate) fn take(&mut self, number: Option<usize>) -> Result<Vec<Listener>, ListenError> {
        if self.0.len() == 0 {
            return Err(ListenError::NothingInherited);
        }
        let last = FIRST + self.0.len() - 1;
        let numbers = match number {
            None => FIRST..=last,
            Some(number) if number <= last => number..=number,
            Some(number) => return Err(ListenError::NotInherited { number, last }),
        };
        let mut listeners = Vec::new();
        for number in numbers {
            let not_unix = |source| ListenError::NotUnix { number, source };
            if let Some(socket) = self.0.take_unix_listener(number - FIRST).map_err(not_unix)? {
                let socket = Socket::Unix(prepare(socket).map_err(not_unix)?);
                listeners.push(Listener { socket, name: format!("fd://{number}"), _file: None });
            }
        }
        Ok(listeners)
    }
}

fn prepare(socket: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    // systemd passes descriptors without CLOEXEC; a container's monitor must not keep our listener open.
    rustix::io::fcntl_setfd(&socket, FdFlags::CLOEXEC)?;
    socket.set_nonblocking(true)?;
    UnixListener::from_std(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn without_systemd_the_message_says_so() {
        let mut nothing = Inherited(ListenFd::empty());
        let error = nothing.take(None).unwrap_err();
        assert_eq!(
            error.to_string(),
            "no sockets found via socket activation: make sure the service was started by systemd"
        );
    }
}
