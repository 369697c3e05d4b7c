//! What the operations mean: state, events, locks. Knows no HTTP and no Docker JSON.
//!
//! [`Engine`] is a cheap handle, bound to one containerd namespace. Its operations, one file each:
//!
//! | Operation | File |
//! |---|---|
//! | `create_container`, `start_container`, `stop_container`, `kill_container`, `remove_container`, `wait_container` | `containers/<verb>.rs` |
//! | `list_containers`, `inspect_container`, `resolve_container` | `containers/{list,inspect,resolve}.rs` |
//! | `stat_container_path`, `read_container_archive`, `write_container_archive`, `export_container`, `commit_container` | `containers/{archive,export,commit}.rs` |
//! | `pause_container`, `unpause_container`, `rename_container`, `prune_containers` | `containers/{pause,rename,prune}.rs` |
//! | `attach_container`, `container_logs`, `resize_container`, `update_container` | `containers/{attach,logs,resize,update}.rs` |
//! | `container_stats`, `container_top`, `container_changes` | `containers/{stats,top,changes}.rs` |
//! | `create_exec`, `start_exec`, `exec_session`, `resize_exec`, `inspect_exec` | `containers/exec/<verb>.rs` |
//! | `pull_image`, `list_images`, `inspect_image`, `remove_image`, `image_history`, `tag_image` | `images/<verb>.rs` |
//! | `create_volume`, `list_volumes`, `inspect_volume`, `remove_volume`, `prune_volumes` | `volumes/<verb>.rs` |
//! | `list_networks`, `inspect_network` | `networks/<verb>.rs` |
//! | `info`, `version`, `check_login` | `system.rs` |
//! | `neighbours`, `figures`, `reload` | `system/{ready,figures}.rs`, `reload.rs` |
//! | `events` | `events/hub.rs` |
//!
//! containerd and nerdctl's files are the truth; what is in memory here is a cache that can be rebuilt at any moment.

mod archive;
pub mod cgroups;
pub mod containers;
pub mod error;
pub mod events;
pub mod fault;
pub mod images;
pub mod inventory;
pub mod locks;
pub mod networks;
pub mod oci;
pub mod prune;
pub mod reload;
pub mod repair;
pub mod supervise;
pub mod system;
pub mod undo;
pub mod volumes;

mod apparmor;
mod handle;
mod random;
mod snapshot_view;
mod waiting;

pub use error::{Class, Error};
pub use handle::{Engine, Settings};

/// Result of an operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;
