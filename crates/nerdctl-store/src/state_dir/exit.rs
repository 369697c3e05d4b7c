//! `exit.json`: how a container's last run ended.
//!
//! containerd keeps the exit status in the stopped task, and forgets it with the task: when the task is deleted, from
//! containerd 1.7 on also when containerd restarts, and always at a reboot. So the daemon writes it down before it
//! tells anybody, and the next createRuntime hook deletes it.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Run;
use super::lifecycle::{read_time, write_time};

/// How one run of a container ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitRecord {
    /// Exit code; 128 + n if signal n ended the process.
    pub exit_code: u32,
    /// When it ended.
    pub finished_at: Timestamp,
    /// Whether the kernel killed it for want of memory.
    pub oom_killed: bool,
    /// Which run that was, if the hook that started it named it.
    pub run: Option<Run>,
}

/// The file, flat.
#[derive(Serialize, Deserialize)]
struct OnDisk {
    exit_code: u32,
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    finished_at: Option<Timestamp>,
    #[serde(default)]
    oom_killed: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(default, serialize_with = "write_time", deserialize_with = "read_time")]
    started_at: Option<Timestamp>,
}

impl Serialize for ExitRecord {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        OnDisk {
            exit_code: self.exit_code,
            finished_at: Some(self.finished_at),
            oom_killed: self.oom_killed,
            pid: self.run.map(|run| run.pid),
            started_at: self.run.map(|run| run.started_at),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ExitRecord {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = OnDisk::deserialize(deserializer)?;
        let run = file.pid.zip(file.started_at).map(|(pid, started_at)| Run { pid, started_at });
        let finished_at = file.finished_at.unwrap_or(Timestamp::UNIX_EPOCH);
        Ok(Self { exit_code: file.exit_code, finished_at, oom_killed: file.oom_killed, run })
    }
}
