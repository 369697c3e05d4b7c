//! Waiting until a descriptor is ready, without reading or writing it.

use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Register an owned descriptor with the runtime.
#[expect(
    deprecated,
    reason = "sound for OwnedFd, which stays what it is; the replacement is an unsafe function, and tokio's pipe types cannot wait without consuming"
)]
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}
