//! One run of one plugin: JSON in, JSON out, and an end in time.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command as Process};

use crate::Attachment;
use crate::error::{CniError, Result};

/// No result is anywhere near this, and no plugin may fill our memory.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// How often a plugin that somebody is just writing (`ETXTBSY`) is tried again, and after which pause.
const BUSY_RETRIES: u32 = 5;
const BUSY_PAUSE: Duration = Duration::from_millis(100);

/// What a plugin is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
}

impl Command {
    fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
        }
    }
}

/// One run of a plugin.
pub(crate) struct Invocation<'a> {
    pub(crate) plugin: &'a str,
    pub(crate) program: &'a Path,
    pub(crate) command: Command,
    pub(crate) attachment: &'a Attachment,
    pub(crate) search_path: OsString,
    pub(crate) deadline: Duration,
}

/// What a failing plugin prints.
#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

impl Invocation<'_> {
    /// Runs the plugin; gives back what it printed. Dropping the future kills it.
    pub(crate) async fn run(&self, request: &str) -> Result<Vec<u8>> {
        let (status, stdout, stderr) =
            match tokio::time::timeout(self.deadline, self.talk(request)).await {
                Ok(talked) => talked.map_err(|source| CniError::NotRun {
                    plugin: self.plugin.to_owned(),
                    command: self.command.as_str(),
                    source,
                })?,
                Err(_) => {
                    return Err(CniError::TimedOut {
                        plugin: self.plugin.to_owned(),
                        command: self.command.as_str(),
                        deadline: self.deadline,
                    });
                }
            };
        if !stderr.is_empty() {
            tracing::debug!(plugin = self.plugin, stderr = %String::from_utf8_lossy(&stderr).trim(), "plugin says");
        }
        if status.success() { Ok(stdout) } else { Err(self.refusal(status, &stdout, &stderr)) }
    }

    async fn talk(&self, request: &str) -> io::Result<(ExitStatus, Vec<u8>, Vec<u8>)> {
        let mut child = self.spawn().await?;
        let (Some(mut stdin), Some(stdout), Some(stderr)) =
            (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let feed = async move {
            match stdin.write_all(request.as_bytes()).await {
                // A plugin that fails early need not read; its exit code says why.
                Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
                _ => Ok(()),
            }
        };
        let ((), stdout, stderr) =
            tokio::try_join!(feed, read_limited(stdout), read_limited(stderr))?;
        Ok((child.wait().await?, stdout, stderr))
    }

    async fn spawn(&self) -> io::Result<Child> {
        let mut retries = 0;
        loop {
            match self.process().spawn() {
                Err(error)
                    if error.kind() == io::ErrorKind::ExecutableFileBusy
                        && retries < BUSY_RETRIES =>
                {
                    retries += 1;
                    tokio::time::sleep(BUSY_PAUSE).await;
                }
                spawned => return spawned,
            }
        }
    }

    fn process(&self) -> Process {
        let netns = self.attachment.netns.as_deref().unwrap_or(Path::new(""));
        let mut process = Process::new(self.program);
        process
            .env("CNI_COMMAND", self.command.as_str())
            .env("CNI_CONTAINERID", &self.attachment.container_id)
            .env("CNI_NETNS", netns)
            .env("CNI_IFNAME", &self.attachment.if_name)
            .env("CNI_ARGS", arguments(&self.attachment.args))
            .env("CNI_PATH", &self.search_path)
            .env("PATH", program_path(std::env::var("PATH").ok()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        process
    }

    /// What went wrong, in the plugin's words; libcni takes stderr if there are none.
    fn refusal(&self, status: ExitStatus, stdout: &[u8], stderr: &[u8]) -> CniError {
        let (code, message) = match serde_json::from_slice::<Failure>(stdout) {
            Ok(failure) if failure.details.is_empty() => (failure.code, failure.msg),
            Ok(failure) => (failure.code, format!("{}; {}", failure.msg, failure.details)),
            Err(_) => {
                let said = if stdout.trim_ascii().is_empty() { stderr } else { stdout };
                (0, format!("{status}: {}", String::from_utf8_lossy(said).trim()))
            }
        };
        CniError::Refused {
            plugin: self.plugin.to_owned(),
            command: self.command.as_str(),
            code,
            message,
        }
    }
}

async fn read_limited(from: impl AsyncRead + Unpin) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    from.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    if bytes.len() as u64 == OUTPUT_LIMIT {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    Ok(bytes)
}

fn arguments(pairs: &[(String, String)]) -> String {
    pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";")
}

/// Plugins look for iptables; a hook's environment may be bare, and a user's PATH often lacks the system folders.
fn program_path(inherited: Option<String>) -> String {
    let mut path =
        inherited.unwrap_or_else(|| "/usr/local/sbin:/usr/local/bin:/usr/bin:/bin".to_owned());
    for folder in ["/usr/sbin", "/sbin"] {
        if !path.split(':').any(|known| known == folder) {
            path.push(':');
            path.push_str(folder);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_joined_by_semicolons() {
        let pair = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        assert_eq!(
            arguments(&[pair("IgnoreUnknown", "1"), pair("IP", "10.4.0.9")]),
            "IgnoreUnknown=1;IP=10.4.0.9"
        );
        assert_eq!(arguments(&[]), "");
    }

    #[test]
    fn system_folders_are_always_searched() {
        assert_eq!(program_path(Some("/bin:/sbin".into())), "/bin:/sbin:/usr/sbin");
        assert!(program_path(None).ends_with(":/usr/sbin:/sbin"));
    }
}
