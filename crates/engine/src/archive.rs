//! File trees as tar streams, in both directions, with bounded memory and without leaving the tree.
//!
//! A [`Tree`] is a directory that is held open; every path is resolved by the kernel as if that directory were `/`
//! (`openat2` with `RESOLVE_IN_ROOT`), and what is below is reached by single names that are never followed. So nothing
//! that a container or an archive contains can lead outside, whatever it changes meanwhile. No program is run.
//!
//! | File | Knows |
//! |---|---|
//! | `tree.rs` | paths within a tree |
//! | `mounts.rs` | how to put a container's root together that does not run, mounted nowhere |
//! | `pack.rs`, `header.rs` | a tree as an archive |
//! | `unpack.rs`, `reader.rs`, `sparse.rs` | an archive into a tree |
//! | `compression.rs` | gzip, bzip2, xz, zstd |
//! | `pipe.rs` | between threads that wait for disks and tasks that wait for clients |

pub(crate) mod compression;
pub(crate) mod header;
pub(crate) mod mounts;
pub(crate) mod pack;
pub(crate) mod pipe;
pub(crate) mod reader;
mod sparse;
pub(crate) mod tree;
pub(crate) mod unpack;

pub(crate) use tree::{Tree, clean};
