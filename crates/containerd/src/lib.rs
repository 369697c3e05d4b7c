//! containerd over gRPC.
//!
//! [`Client`] speaks to one containerd, in one namespace, perhaps under one lease. Its methods are
//! containerd's calls with our own small structs instead of generated messages, so no other crate
//! needs to know protobuf:
//!
//! | File | What |
//! |---|---|
//! | [`containers`] | container records: labels, extensions, spec |
//! | [`tasks`] | running processes: create, start, wait, kill, exec |
//! | [`events`] | the event stream, typed |
//! | [`images`] | names that point to descriptors |
//! | [`content`] | blobs: read, write, resume |
//! | [`snapshots`] | layered file systems |
//! | [`diff`] | layers in and out of snapshots |
//! | [`leases`] | what the garbage collector must leave alone |
//! | [`introspection`] | which containerd this is and what it can do |
//! | [`namespaces`] | their names and labels |
//!
//! What holds everywhere:
//!
//! - Nothing connects before the first call, and a lost containerd is found again by the next
//!   call: there is no state to repair and no reconnect loop.
//! - Dropping a future cancels its call in containerd. Short calls have a deadline, [`Client::wait`]
//!   and streams have none.
//! - Every failure is an [`Error`] that names the operation and the thing, with a [`Kind`] to
//!   decide by. Texts are compared in [`classify`] only.
//! - containerd's own vocabulary is kept (task, snapshot, lease); Docker's does not appear here.

pub mod any;
mod call;
mod channels;
pub mod classify;
mod client;
pub mod containers;
pub mod content;
mod descriptor;
pub mod diff;
mod error;
pub mod events;
pub mod filter;
pub mod images;
pub mod introspection;
pub mod leases;
pub mod messages;
mod mount;
pub mod namespaces;
pub mod snapshots;
pub mod tasks;
mod wire;

pub use any::Any;
pub use client::Client;
pub use descriptor::Descriptor;
pub use error::{Error, Kind, Result};
pub use mount::Mount;

/// Labels of any containerd object, sorted by key.
///
/// containerd drops labels whose value is empty and refuses those whose key and value together
/// exceed 4096 bytes (containerd `labels/validate.go`).
pub type Labels = std::collections::BTreeMap<String, String>;
