//! What a process occupies.

use std::fs;

use e2e::{Context, Result};

/// A way to count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// All pages in memory, those of the program's file included (`VmRSS`).
    Resident,
    /// Pages that it wrote and has alone. Pages of the program's file are left out: whether those are private depends on
    /// who else runs the same program.
    Private,
}

/// Mebibytes of a process.
///
/// # Errors
/// When it is gone.
pub(crate) fn of(pid: u32, kind: Kind) -> Result<f64> {
    let (file, keys): (_, &[&str]) = match kind {
        Kind::Resident => ("status", &["VmRSS:"]),
        Kind::Private => ("smaps_rollup", &["Private_Dirty:", "Private_Hugetlb:"]),
    };
    let path = format!("/proc/{pid}/{file}");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    sum(&text, keys).with_context(|| format!("{path} has no {keys:?}"))
}

/// The most mebibytes that a process had in memory since [`forget_peak`].
///
/// # Errors
/// When it is gone.
pub(crate) fn peak(pid: u32) -> Result<f64> {
    let path = format!("/proc/{pid}/status");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    sum(&text, &["VmHWM:"]).with_context(|| format!("{path} has no VmHWM"))
}

/// What is in memory now is the new peak (proc(5), `clear_refs`).
///
/// # Errors
/// When it is gone.
pub(crate) fn forget_peak(pid: u32) -> Result<()> {
    fs::write(format!("/proc/{pid}/clear_refs"), "5").context("clear_refs")
}

/// Adds lines `KEY  N kB`.
fn sum(text: &str, keys: &[&str]) -> Option<f64> {
    let value = |key: &&str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let kibibytes: Option<f64> = keys.iter().map(value).sum();
    Some(kibibytes? / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_added() {
        let text = "Rss:   9 kB\nPrivate_Clean:    1024 kB\nPrivate_Dirty:  512 kB\n";
        assert_eq!(sum(text, &["Private_Clean:", "Private_Dirty:"]), Some(1.5));
        assert_eq!(sum(text, &["Private_Clean:", "Absent:"]), None);
    }

    #[test]
    fn this_process_occupies_something_and_shares_some_of_it() {
        let me = std::process::id();
        let resident = of(me, Kind::Resident).unwrap();
        let private = of(me, Kind::Private).unwrap();
        assert!(private > 0.0 && private < resident, "{private} of {resident}");
    }
}
