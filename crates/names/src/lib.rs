//! Ids, names, references, digests, signals, sizes, platforms: parsed once, then trusted.
//!
//! A value of one of these types is proof that its text was checked. The text is private, so the
//! only ways in are [`FromStr`](std::str::FromStr) and the few constructors that cannot fail; the
//! ways out are `Display` and `as_str`. Code after the edge of the system never looks at a raw
//! string again, and never checks one twice.
//!
//! Two kinds of types live here:
//!
//! - **names of things**: [`ContainerId`], [`ContainerName`], [`NetworkId`], [`Digest`], [`ImageRef`] …
//! - **what a user typed**: [`ContainerRef`], [`NetworkRef`], [`ImageSelector`]. They may turn out to
//!   be an id, a part of one, or a name; whoever knows the things resolves them, once.
//!
//! Every error says what was given and what was expected, in Docker's words where Docker has some,
//! because clients search for those texts. The crate depends on nothing but `std`.

mod container;
mod exec;
mod hex;
mod identifier;
mod image;
mod namespace;
mod network;
#[cfg(test)]
mod never_panics;
mod platform;
mod port;
mod signal;
mod size;
mod volume;

pub use container::{
    ContainerId, ContainerName, ContainerRef, EmptyContainerRef, InvalidContainerName,
};
pub use exec::ExecId;
pub use identifier::InvalidIdentifier;
pub use image::{
    Digest, DigestAlgorithm, ImageId, ImageRef, ImageSelector, InvalidDigest, InvalidImageRef,
    InvalidTag, validate_tag,
};
pub use namespace::Namespace;
pub use network::{EmptyNetworkName, InvalidNetworkId, NetworkId, NetworkName, NetworkRef};
pub use platform::{InvalidPlatform, Platform};
pub use port::{InvalidPort, PortRange, PortSpec, Protocol};
pub use signal::{InvalidSignal, Signal};
pub use size::{ByteSize, InvalidSize};
pub use volume::{InvalidVolumeName, VolumeName};
