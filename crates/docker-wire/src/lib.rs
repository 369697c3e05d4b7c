//! Docker's JSON, query, filter and stream formats, byte for byte.
//!
//! This crate knows how Docker's API is *spelled*, for the newest API version, and nothing about what it
//! means. It has no I/O and no async.
//!
//! Four rules hold for every type, so that a reader can check it against moby's struct of the same name:
//!
//! 1. **One direction each.** Requests derive `Deserialize` and `Default`, responses derive `Serialize`.
//!    A type that goes both ways says why.
//! 2. **The type is the null policy.** `Option<T>` without an attribute is Go's nil: `null`.
//!    `skip_serializing_if` is Go's `omitempty`: the key is left out. `Vec` and `BTreeMap` are never null.
//!    Fields stand in the order of Docker's Go struct.
//! 3. **Maps are sorted** (`BTreeMap`), as Go sorts them. Times are texts, made by [`time`].
//! 4. **Bodies are decoded with [`decode::from_slice`]**, which follows Go's decoder: keys in any case,
//!    `null` is absent, unknown keys are ignored. It needs to see serde's field list, so requests never use
//!    `#[serde(flatten)]` and never `#[serde(alias)]`.
//!
//! Fields that only older API versions have are `Option` with `skip_serializing_if` and say up to which
//! version they appear; whoever serves that version fills them.

pub mod auth;
pub mod containers;
pub mod decode;
pub mod distribution;
pub mod encode;
pub mod error;
pub mod events;
pub mod exec;
pub mod filters;
pub mod host_config;
pub mod images;
pub mod logs;
pub mod networks;
pub mod progress;
pub mod query;
pub mod stats;
pub mod stream;
pub mod system;
pub mod time;
pub mod volumes;

mod absent;

pub use absent::Empty;
