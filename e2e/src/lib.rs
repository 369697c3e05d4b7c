//! The rig of the end-to-end tests, and the client they speak Docker's API with.
//!
//! A test sees a whole machine in miniature, a [`Host`]: containerd, registries, a CNI folder, a network of its own and
//! the daemon under test, all real, all in one [`Sandbox`] of Linux namespaces whose end takes everything with it.
//!
//! # How a test run goes
//!
//! `tests/api/main.rs` is the one test program (one link, one shared host): a list of groups, each a file beside it, each
//! a list of [`Test`]s. [`runner::run`] runs them on a few threads, gives each a time after which it counts as hung,
//! prints the logs of the host for a failing one, and prints the lines `cargo test` would print. A test that cannot run
//! here (no Go toolchain built the peer it needs, a dockerd is the target, the slow tier is off) is *ignored with a
//! reason*, never silently passed.
//!
//! A test takes `&Rig`: [`Rig::host`] is the host that tests share (unique names keep them apart: [`unique`]);
//! [`Rig::with_own_host`] starts one that the test may break.
//!
//! # Knobs
//!
//! | Variable | Meaning |
//! |---|---|
//! | `E2E_CONTAINERD` | which containerd: `1.6` (Debian's, the default), `1.7`, `2` |
//! | `E2E_TARGET` | `nerdctld` (default), `dockerd` (the peer dockerd 29 in the same rig), `dockerd-20.10` (Debian's), or `unix:///path` of a running daemon |
//! | `E2E_SLOW` | `1` runs the slow tier as well |
//! | `E2E_THREADS` | tests at once (default 4: they mostly wait) |
//! | `E2E_KEEP` | `1` keeps the root folder of a host for a look at its logs |
//! | `NERDCTLD` | the daemon's binary (default: beside the test program in `target/`) |
//! | `NERDCTLD_PEERS` | the cache folder of `scripts/setup.sh` |
//!
//! # Where things are
//!
//! [`sandbox`] namespaces, cgroups, clean-up · [`host`] what is started in them · [`peers`] where the programs are ·
//! [`http`] a client with every byte in its hand · [`api`] Docker requests on top of it · [`cli`] docker, nerdctl, ctr
//! and terminals · [`frames`] attach and log streams · [`runner`] the test program's loop · [`lying`] a registry that
//! tampers with what passes · [`proxy`] a way to registries · [`forge`] images made by hand.
//!
//! The benchmark (`make bench`) is a program of its own on top of the same rig: `src/bin/bench/`, its rows in `rows.rs`.
//!
//! The clean-up does not depend on the test program: its end, however it comes, closes a pipe; the sandbox's first
//! process then exits, the kernel kills every process of its PID namespace, and a guard outside removes cgroups and
//! files. See [`sandbox`].

pub mod api;
pub mod certificates;
pub mod cli;
pub mod forge;
pub mod frames;
pub mod host;
pub mod http;
pub mod lying;
pub mod peers;
pub mod proxy;
pub mod runner;
pub mod sandbox;
pub mod shape;

pub use anyhow::{Context, Error, Result, anyhow, bail, ensure};
pub use api::{Api, Container};
pub use host::Host;
pub use runner::{Rig, Test, unique};
pub use sandbox::Sandbox;
