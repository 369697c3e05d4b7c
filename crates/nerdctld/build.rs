//! Puts what every start and every idle second runs side by side in the program.
//!
//! Linked in the order of crates, the few functions that an idle daemon runs lie scattered over the whole program, and the
//! kernel maps 64 KiB around each of them: two thirds of the text become resident (filemap_map_pages, mm/filemap.c).
//! `idle.order` names these functions, and the linker puts them first. Names that no longer exist are passed over, so a
//! list that is out of date costs memory and nothing else; `cargo xtask budget` says when it costs too much, and
//! `cargo xtask order` writes it again.

use std::env;
use std::path::Path;

/// Rust links for this target with LLVM's linker unless it is told otherwise; others do not know the option.
const LINKED_WITH_LLD: &str = "x86_64-unknown-linux-gnu";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=idle.order");
    println!("cargo::rerun-if-env-changed=NERDCTLD_NO_ORDER");
    if is_wanted() {
        let folder = env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
        let order = Path::new(&folder).join("idle.order");
        for option in [
            format!("--symbol-ordering-file={}", order.display()),
            "--no-warn-symbol-ordering".into(),
        ] {
            println!("cargo::rustc-link-arg-bins=-Wl,{option}");
        }
    }
}

/// Only in what is released, and only where the linker is the one that Rust brings.
fn is_wanted() -> bool {
    let is = |name: &str, value: &str| env::var(name).is_ok_and(|found| found == value);
    let own_linker = env::var_os("RUSTC_LINKER").is_some()
        || env::var("CARGO_ENCODED_RUSTFLAGS").is_ok_and(|flags| flags.contains("link"));
    is("PROFILE", "release")
        && is("TARGET", LINKED_WITH_LLD)
        && is("HOST", LINKED_WITH_LLD)
        && !own_linker
        && env::var_os("NERDCTLD_NO_ORDER").is_none()
}
