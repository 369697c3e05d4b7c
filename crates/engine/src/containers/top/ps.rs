//! Running the host's `ps`.
//!
//! The client chooses its arguments, so what it shows is filtered again by process id, and there is a bound on everything.

use std::collections::BTreeSet;
use std::io;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command;

use super::{ProcessTable, table};

/// A process that is stuck in the kernel can hold up whoever reads its command line.
const DEADLINE: Duration = Duration::from_secs(10);

/// Bytes of output that are read: 30,000 processes with long command lines.
const MAX_OUTPUT: u64 = 16 * 1024 * 1024;

/// Why the processes of a container could not be listed. In the words of moby `daemon/top_unix.go`.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TopError {
    /// Another column would be called `PID`, by which the container's processes are found.
    #[error("specifying \"{column}={title}\" is not allowed")]
    FalsePid {
        /// The column.
        column: String,
        /// What it was to be called.
        title: String,
    },
    /// There is no `ps`.
    #[error("ps: exec: \"ps\": executable file not found in $PATH")]
    NoPs,
    /// `ps` refused the arguments; its own words.
    #[error("ps: {0}")]
    Refused(String),
    /// `ps` could not be run.
    #[error("ps")]
    NotRun(#[source] io::Error),
    /// `ps` did not end.
    #[error("ps: it took longer than {} s", DEADLINE.as_secs())]
    TookTooLong,
    /// The arguments leave the process ids out.
    #[error("Couldn't find PID field in ps output")]
    NoPid,
    /// The column of process ids has something else.
    #[error("Unexpected pid '{given}': strconv.Atoi: parsing \"{given}\": invalid syntax")]
    UnexpectedPid {
        /// What it has.
        given: String,
    },
}

/// Refuse what makes another column look like the process ids.
///
/// As moby's expression `\s+([^\s]*)=\s*(PID[^\s]*)`: in every word but the first, and also where the title is the next
/// word.
pub(super) fn check_arguments(arguments: &str) -> Result<(), TopError> {
    let words: Vec<&str> =
        arguments.split(|c: char| c != '\u{b}' && c.is_ascii_whitespace()).collect();
    // What comes before the first blank has none before it.
    let words = words.get(1..).unwrap_or_default();
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.is_empty()).collect();
    for (at, word) in words.iter().enumerate() {
        let next = words.get(at + 1).copied().filter(|next| next.starts_with("PID"));
        let assigned = match (word.strip_suffix('='), next) {
            (Some(column), Some(title)) => Some((column, title)),
            _ => word.rfind("=PID").map(|at| (&word[..at], &word[at + 1..])),
        };
        if let Some((column, title)) = assigned.filter(|(column, _)| *column != "pid") {
            return Err(TopError::FalsePid { column: column.to_owned(), title: title.to_owned() });
        }
    }
    Ok(())
}

/// Run `ps` for these processes.
pub(super) async fn run(
    arguments: &str,
    processes: Arc<BTreeSet<u32>>,
) -> Result<ProcessTable, TopError> {
    let only = processes.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    let arguments: Vec<&str> = arguments.split(' ').collect();
    let output = async {
        let chosen = execute(&arguments, Some(&format!("-q{only}"))).await?;
        if chosen.status.success() {
            return Ok(chosen);
        }
        // Some options, as f, do not go together with the choice of processes.
        execute(&arguments, None).await
    };
    let output =
        tokio::time::timeout(DEADLINE, output).await.map_err(|_| TopError::TookTooLong)??;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let first = words.lines().next().unwrap_or_default();
        let said = if first.is_empty() { output.status.to_string() } else { first.to_owned() };
        return Err(TopError::Refused(said));
    }
    table::parse(&String::from_utf8_lossy(&output.stdout), &processes)
}

async fn execute(arguments: &[&str], only: Option<&str>) -> Result<Output, TopError> {
    let mut command = Command::new("ps");
    command.args(arguments).args(only).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(TopError::NoPs),
        // More processes than fit into an argument: they are chosen from all.
        Err(error) if error.kind() == io::ErrorKind::ArgumentListTooLong && only.is_some() => {
            return Box::pin(execute(arguments, None)).await;
        }
        Err(error) => return Err(TopError::NotRun(error)),
    };
    let (stdout, stderr) =
        tokio::try_join!(bounded(child.stdout.take()), bounded(child.stderr.take()))
            .map_err(TopError::NotRun)?;
    // One that has more to say has been cut off by the closed pipe.
    let status = child.wait().await.map_err(TopError::NotRun)?;
    Ok(Output { status, stdout, stderr })
}

async fn bounded(pipe: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(pipe) = pipe {
        pipe.take(MAX_OUTPUT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_column_is_called_pid() {
        for harmless in [
            "-ef",
            "-eo pid,comm",
            "-o pid=PID,comm",
            "aux",
            "",
            "-o pid=PIDx",
            "-o comm=Pid",
            "o=PID",
        ] {
            check_arguments(harmless).unwrap_or_else(|error| panic!("{harmless}: {error}"));
        }
        for (given, words) in [
            ("-eo comm=PID", r#"specifying "comm=PID" is not allowed"#),
            ("-o ppid=PID,pid", r#"specifying "ppid=PID,pid" is not allowed"#),
            ("-o  comm= \t PIDs", r#"specifying "comm=PIDs" is not allowed"#),
            (" x=PID", r#"specifying "x=PID" is not allowed"#),
        ] {
            assert_eq!(check_arguments(given).unwrap_err().to_string(), words, "{given}");
        }
    }

    #[tokio::test]
    async fn this_process_is_shown() {
        let own = std::process::id();
        let table = match run("-eo pid,comm", Arc::new([own].into())).await {
            Err(TopError::NoPs) => return eprintln!("skipped: no ps here"),
            table => table.unwrap(),
        };
        assert_eq!(table.titles, ["PID", "COMMAND"]);
        assert_eq!(table.processes.len(), 1);
        assert_eq!(table.processes[0][0], own.to_string());
        // Not together with -q.
        let forest = run("-e f", Arc::new([own].into())).await.unwrap();
        assert_eq!(forest.processes.len(), 1, "{forest:?}");
        let refused = run("--no-such-option", Arc::new([own].into())).await.unwrap_err();
        assert!(refused.to_string().starts_with("ps: "), "{refused}");
    }
}
