//! `POST /commit`: an image of a container.

use docker_wire::containers::{ContainerConfig, HealthConfig};
use docker_wire::decode;
use docker_wire::error::IdResponse;
use engine::containers::commit::CommitRequest;
use engine::images::{HealthCheck, Nothing, RunConfig};
use names::ImageRef;

use crate::api::call::{Answer, Call, bad_json, chain};
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// `POST /commit`.
pub(in crate::api) async fn commit(call: Call) -> Answer {
    let config: Option<ContainerConfig> = match call.json_value().await? {
        Some(value) => Some(decode::from_value(&value).map_err(bad_json)?),
        None => None,
    };
    let query = &call.query;
    let container = query.text("container");
    if container.is_empty() {
        let text = "invalid name or ID supplied: \"\"";
        return Err(Refusal::BadParameter(text.to_owned()).into());
    }
    let request = CommitRequest {
        name: repo_and_tag(query.text("repo"), query.text("tag"))?,
        author: query.text("author").to_owned(),
        comment: query.text("comment").to_owned(),
        // Given but empty means what not given means.
        pause: query.text("pause").is_empty() || query.flag("pause"),
        config: config.map(run_config).unwrap_or_default(),
        changes: query.all("changes").map(str::to_owned).collect(),
    };
    let id = call.engine.commit_container(container, request).await?;
    Ok(Reply::created(&IdResponse { id }))
}

/// The name that an image is to have; none without a repository (moby `daemon/server/httputils/form.go`,
/// `RepoTagReference`).
pub(in crate::api) fn repo_and_tag(repo: &str, tag: &str) -> Result<Option<ImageRef>, Refusal> {
    let bad = |text: String| Refusal::BadParameter(text);
    if repo.is_empty() {
        return Ok(None);
    }
    if repo.len() == 64 && repo.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(bad(format!(
            "invalid repository name ({repo}), cannot specify 64-byte hexadecimal strings"
        )));
    }
    let name: ImageRef =
        repo.parse().map_err(|error: names::InvalidImageRef| bad(chain(&error)))?;
    if name.digest().is_some() {
        return Err(bad("cannot import digest reference".to_owned()));
    }
    let name = if tag.is_empty() {
        name.with_default_tag()
    } else {
        name.with_tag(tag).map_err(|error| bad(chain(&error)))?
    };
    Ok(Some(name))
}

/// What of a container's configuration an image can have.
fn run_config(config: ContainerConfig) -> RunConfig {
    RunConfig {
        user: config.user,
        exposed_ports: config.exposed_ports.into_keys().map(|port| (port, Nothing {})).collect(),
        env: config.env.unwrap_or_default(),
        entrypoint: config.entrypoint,
        cmd: config.cmd,
        volumes: config
            .volumes
            .unwrap_or_default()
            .into_keys()
            .map(|path| (path, Nothing {}))
            .collect(),
        working_dir: config.working_dir,
        labels: config.labels.unwrap_or_default(),
        stop_signal: config.stop_signal,
        args_escaped: config.args_escaped,
        healthcheck: config.healthcheck.map(health_check),
        on_build: config.on_build.flatten().unwrap_or_default(),
        shell: config.shell,
    }
}

fn health_check(config: HealthConfig) -> HealthCheck {
    HealthCheck {
        test: config.test,
        interval: config.interval,
        timeout: config.timeout,
        start_period: config.start_period,
        start_interval: config.start_interval,
        retries: config.retries,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_new_images() {
        let name = |repo: &str, tag: &str| {
            repo_and_tag(repo, tag)
                .map(|name| name.map(|name| name.to_string()).unwrap_or_default())
                .map_err(|error| error.to_string())
        };
        assert_eq!(name("", "x").unwrap(), "");
        assert_eq!(name("a", "").unwrap(), "docker.io/library/a:latest");
        assert_eq!(name("a:1", "2").unwrap(), "docker.io/library/a:2");
        assert_eq!(name("localhost:5000/a/b", "x").unwrap(), "localhost:5000/a/b:x");
        assert_eq!(
            name("UPPER", "").unwrap_err(),
            "invalid reference format: repository name (library/UPPER) must be lowercase"
        );
        assert_eq!(name("a", "b c").unwrap_err(), "invalid tag format");
        let hex = "a".repeat(64);
        assert!(
            name(&hex, "").unwrap_err().ends_with("cannot specify 64-byte hexadecimal strings")
        );
        let digest = format!("x@sha256:{hex}");
        assert_eq!(name(&digest, "").unwrap_err(), "cannot import digest reference");
    }
}
