//! nerdctl's folders, files, labels and locks.
//!
//! nerdctl keeps no daemon: what it knows beyond containerd's records lies in files below its *data root* and in
//! container labels. This crate reads and writes exactly those, so that nerdctl and this daemon can work on the same
//! containers in turns, or at the same time.
//!
//! ```text
//! <data root>/                                  /var/lib/nerdctl
//!   filesystem-ops/                             recovery markers of in-place writes   files.rs
//!   <hash8>/                                    the data store                        DataStore
//!     names/<namespace>/<name>                  who owns a name                       names.rs
//!     containers/<namespace>/<id>/              the state directory of a container    state_dir.rs
//!     etchosts/<namespace>/<id>/                its hosts file, and what others need  hosts.rs
//!     volumes/<namespace>/<volume>/             volume.json and _data                 volumes.rs
//! ```
//!
//! Everything here is synchronous: call it from `spawn_blocking`. Every change takes the same `flock(2)` as nerdctl
//! does, with a deadline ([`locks`]); readers of single files take none, because those files are replaced by rename.
//!
//! Source of the formats: nerdctl `pkg/store`, `pkg/internal/filesystem`, `pkg/namestore`, `pkg/dnsutil/hostsstore`,
//! `pkg/mountutil/volumestore`, `pkg/ocihook/state`, `pkg/netutil/networkstore`, `pkg/labels`.

mod data_store;
mod error;
pub mod files;
pub mod go_json;
pub mod hosts;
pub mod labels;
pub mod locks;
pub mod names;
pub mod resolv_conf;
pub mod state_dir;
pub mod volumes;

pub use data_store::DataStore;
pub use error::{Result, StoreError};
