//! The part of an image's config that says how to run it, whole: for images that we make.
//!
//! OCI image-spec `config.md` with Docker's further keys (moby `docker-image-spec`, `DockerOCIImageConfig`).

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

/// How to run an image. `None` and empty are the same in documents but not always to [`RunConfig::merge`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `user[:group]`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Nothing>,
    /// `NAME=value`.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// The command, or arguments of the program.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cmd: Option<Vec<String>>,
    /// Paths of anonymous volumes.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Nothing>,
    /// Where the process starts.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Labels.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal that stops it.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
    /// Only for Windows.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "std::ops::Not::not")]
    pub args_escaped: bool,
    /// How to find out whether it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck: Option<HealthCheck>,
    /// Instructions for builds on top.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub on_build: Vec<String>,
    /// For shell forms in builds on top.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub shell: Vec<String>,
}

/// `{}`, which is how Go's sets look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nothing {}

/// How to find out whether a container is well. Durations are in nanoseconds; 0 means the default.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HealthCheck {
    /// `["NONE"]`, `["CMD", …]`, `["CMD-SHELL", "…"]`; empty inherits.
    #[serde(deserialize_with = "lenient", skip_serializing_if = "Vec::is_empty")]
    pub test: Vec<String>,
    /// Between checks.
    #[serde(skip_serializing_if = "is_zero")]
    pub interval: i64,
    /// After which a check counts as failed.
    #[serde(skip_serializing_if = "is_zero")]
    pub timeout: i64,
    /// After the start, failures do not count for so long.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_period: i64,
    /// Between checks within the start period.
    #[serde(skip_serializing_if = "is_zero")]
    pub start_interval: i64,
    /// How many failures in a row make it unhealthy.
    #[serde(skip_serializing_if = "is_zero")]
    pub retries: i64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Go's nil slices and maps are `null` in JSON.
fn lenient<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl RunConfig {
    /// Completes what is asked for with what was there before (moby `daemon/commit.go`, `merge`).
    pub fn merge(&mut self, base: &Self) {
        fill(&mut self.user, &base.user);
        fill(&mut self.working_dir, &base.working_dir);
        fill(&mut self.stop_signal, &base.stop_signal);
        add_missing(&mut self.exposed_ports, &base.exposed_ports);
        add_missing(&mut self.volumes, &base.volumes);
        add_missing(&mut self.labels, &base.labels);
        for pair in &base.env {
            let name = name_of(pair);
            if !self.env.iter().any(|known| name_of(known) == name) {
                self.env.push(pair.clone());
            }
        }
        if self.entrypoint.as_ref().is_none_or(Vec::is_empty) {
            if self.cmd.as_ref().is_none_or(Vec::is_empty) {
                self.cmd.clone_from(&base.cmd);
                self.args_escaped = base.args_escaped;
            }
            if self.entrypoint.is_none() {
                self.entrypoint.clone_from(&base.entrypoint);
            }
        }
        self.merge_health_check(base.healthcheck.as_ref());
    }

    fn merge_health_check(&mut self, base: Option<&HealthCheck>) {
        let Some(base) = base else { return };
        let Some(own) = &mut self.healthcheck else {
            self.healthcheck = Some(base.clone());
            return;
        };
        if own.test.is_empty() {
            own.test.clone_from(&base.test);
        }
        for (own, base) in [
            (&mut own.interval, base.interval),
            (&mut own.timeout, base.timeout),
            (&mut own.start_period, base.start_period),
            (&mut own.start_interval, base.start_interval),
            (&mut own.retries, base.retries),
        ] {
            if *own == 0 {
                *own = base;
            }
        }
    }
}

fn fill(own: &mut String, base: &str) {
    if own.is_empty() {
        base.clone_into(own);
    }
}

fn add_missing<T: Clone>(own: &mut BTreeMap<String, T>, base: &BTreeMap<String, T>) {
    for (key, value) in base {
        own.entry(key.clone()).or_insert_with(|| value.clone());
    }
}

/// The part of `NAME=value` before the sign.
pub(super) fn name_of(pair: &str) -> &str {
    pair.split('=').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn what_is_not_asked_for_comes_from_before() {
        let base = RunConfig {
            user: "u".into(),
            env: texts(&["A=1", "B=2"]),
            entrypoint: Some(texts(&["e"])),
            cmd: Some(texts(&["c"])),
            labels: [("x".into(), "1".into()), ("y".into(), "2".into())].into(),
            ..RunConfig::default()
        };
        let mut asked = RunConfig {
            env: texts(&["B=3"]),
            labels: [("y".into(), "9".into())].into(),
            ..RunConfig::default()
        };
        asked.merge(&base);
        assert_eq!(asked.env, ["B=3", "A=1"]);
        assert_eq!((asked.user.as_str(), asked.labels["y"].as_str()), ("u", "9"));
        assert_eq!((&asked.cmd, &asked.entrypoint), (&base.cmd, &base.entrypoint));

        let mut own = RunConfig { entrypoint: Some(texts(&["own"])), ..RunConfig::default() };
        own.merge(&base);
        assert_eq!(own.cmd, None, "an entry point of its own has no command of another");
    }

    #[test]
    fn documents_have_only_what_is_there() {
        let json = serde_json::to_string(&RunConfig::default()).unwrap();
        assert_eq!(json, "{}");
        let read: RunConfig = serde_json::from_str(
            r#"{"Env":null,"Cmd":null,"Volumes":{"/v":{}},"Healthcheck":{"Test":["NONE"]},"Unknown":1}"#,
        )
        .unwrap();
        assert_eq!(read.volumes.len(), 1);
        assert_eq!(read.healthcheck.unwrap().test, ["NONE"]);
    }
}
