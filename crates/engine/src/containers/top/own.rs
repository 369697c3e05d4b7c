//! The columns of `ps -ef`, for hosts without `ps`: read from `/proc` (proc(5), procps `src/ps/output.c`).

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::ProcessTable;
use crate::cgroups::text;

/// Clock ticks of `/proc` in a second, on every architecture.
const TICKS: u64 = 100;

/// The rows of these processes; one that has ended meanwhile has none.
pub(super) fn table(processes: &BTreeSet<u32>) -> ProcessTable {
    let titles = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
    let host = Host::read();
    let rows = processes.iter().filter_map(|pid| row(*pid, &host));
    ProcessTable { titles: titles.map(str::to_owned).into(), processes: rows.collect() }
}

/// What all rows need.
struct Host {
    users: HashMap<String, String>,
    booted: i64,
    now: Timestamp,
    zone: TimeZone,
}

impl Host {
    fn read() -> Self {
        let passwd = text(Path::new("/etc/passwd")).unwrap_or_default();
        let user = |line: &str| {
            let mut fields = line.split(':');
            let name = fields.next()?.to_owned();
            Some((fields.nth(1)?.to_owned(), name))
        };
        let stat = text(Path::new("/proc/stat")).unwrap_or_default();
        let booted = stat.lines().find_map(|line| line.strip_prefix("btime ")?.parse().ok());
        Self {
            users: passwd.lines().filter_map(user).collect(),
            booted: booted.unwrap_or(0),
            now: Timestamp::now(),
            zone: TimeZone::system(),
        }
    }
}

fn row(pid: u32, host: &Host) -> Option<Vec<String>> {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let stat = text(&folder.join("stat")).ok()?;
    // The name stands in parentheses and may have any character in it.
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let fields: Vec<&str> = after.split_ascii_whitespace().collect();
    let number =
        |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
    let (parent, terminal) = (number(1), number(4));
    let (worked, started) = (number(11) + number(12), number(19));
    let begun = host.booted.saturating_add(i64::try_from(started / TICKS).ok()?);
    Some(vec![
        user(&folder, host),
        pid.to_string(),
        parent.to_string(),
        load(worked / TICKS, host.now.as_second().saturating_sub(begun)),
        start_time(Timestamp::from_second(begun).ok()?, host),
        terminal_name(terminal),
        duration(worked / TICKS),
        command(&folder, name),
    ])
}

fn user(folder: &Path, host: &Host) -> String {
    let status = text(&folder.join("status")).unwrap_or_default();
    // Real, effective, saved, of the file system.
    let ids = status.lines().find_map(|line| line.strip_prefix("Uid:")).unwrap_or_default();
    let id = ids.split_ascii_whitespace().nth(1).unwrap_or("0");
    host.users.get(id).cloned().unwrap_or_else(|| id.to_owned())
}

/// Percent of a processor since the start.
fn load(worked: u64, lived: i64) -> String {
    let lived = u64::try_from(lived).unwrap_or(0).max(1);
    (worked.saturating_mul(100) / lived).min(99).to_string()
}

/// Of today the time, of this year the day, else the year.
fn start_time(begun: Timestamp, host: &Host) -> String {
    let (begun, now) = (begun.to_zoned(host.zone.clone()), host.now.to_zoned(host.zone.clone()));
    let format = if begun.date() == now.date() {
        "%H:%M"
    } else if begun.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    begun.strftime(format).to_string()
}

/// Device numbers of the kernel's `Documentation/admin-guide/devices.txt`.
fn terminal_name(device: u64) -> String {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xfff00));
    match major {
        136..=143 => format!("pts/{}", minor + (major - 136) * 256),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn duration(seconds: u64) -> String {
    let clock = format!("{:02}:{:02}:{:02}", seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    match seconds / 86_400 {
        0 => clock,
        days => format!("{days}-{clock}"),
    }
}

/// Its arguments; a thread of the kernel, or a process that has ended, has none but a name.
fn command(folder: &Path, name: &str) -> String {
    let arguments = text(&folder.join("cmdline")).unwrap_or_default();
    let arguments = arguments.trim_end_matches('\0').replace(['\0', '\n'], " ");
    if arguments.is_empty() { format!("[{name}]") } else { arguments }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_ps_shows_this_process() {
        let own = std::process::id();
        let shown =
            std::process::Command::new("ps").args(["-ww", "-ef", &format!("-q{own}")]).output();
        let Ok(shown) = shown else { return eprintln!("skipped: no ps here") };
        let shown = String::from_utf8(shown.stdout).unwrap();
        let theirs = super::super::table::parse(&shown, &[own].into()).unwrap();
        let ours = table(&[own, u32::MAX].into());
        assert_eq!(ours.titles, theirs.titles);
        assert_eq!(ours.processes.len(), 1);
        let (ours, theirs) = (&ours.processes[0], &theirs.processes[0]);
        // C and TIME go on.
        for column in [0, 1, 2, 4, 5, 7] {
            assert_eq!(ours[column].trim(), theirs[column], "column {column}");
        }
    }

    #[test]
    fn terminals_and_times() {
        assert_eq!(terminal_name(0), "?");
        assert_eq!(terminal_name(0x8803), "pts/3");
        assert_eq!(terminal_name(0x0401), "tty1");
        assert_eq!(terminal_name(0x0440), "ttyS0");
        assert_eq!(duration(59), "00:00:59");
        assert_eq!(duration(90_061), "1-01:01:01");
        assert_eq!(
            (load(5, 10), load(0, 0), load(1000, 1)),
            ("50".into(), "0".into(), "99".into())
        );
    }
}
