//! Make an exec: everything that decides what it will be is looked up now, and nothing runs.

use std::collections::HashSet;
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;

use names::ExecId;
use oci_spec::runtime::User;
use serde_json::Value;

use super::process::Spec;
use super::{Exec, ExecOptions};
use crate::containers::attach::DetachKeys;
use crate::containers::{Container, ContainerDetails, Owner, Phase, record};
use crate::events::translate::container_event;
use crate::oci::{Ids, ImageFiles, image_files};
use crate::{Engine, Error, Result, random};

impl Engine {
    /// Make an exec in a running container.
    ///
    /// # Errors
    /// [`Error::NoExecCommand`], [`Error::NotRunning`], [`Error::ExecPaused`], [`Error::ExecRestarting`],
    /// [`Error::NoSuchUser`], [`Error::InvalidEscapeKeys`]; as [`Engine::inspect_container`].
    pub async fn create_exec(&self, typed: &str, mut options: ExecOptions) -> Result<ExecId> {
        if options.cmd.is_empty() {
            return Err(Error::NoExecCommand);
        }
        let container = self.resolve_container(typed).await?;
        let container = self.up_to_date(container, |phase| phase == Phase::Running).await;
        takes_execs(&container, typed)?;
        let doing = || format!("read the record of container {}", container.id);
        let found = match self.containerd().get_container(container.id.as_str()).await {
            Ok(found) => found,
            Err(error) if error.is_not_found() => {
                return Err(Error::NoSuchContainer(typed.to_owned()));
            }
            Err(error) => return Err(self.containerd_error(doing(), error)),
        };
        let details = record::details(&found, Arc::clone(&container), &self.settings().namespace)
            .ok_or_else(|| Error::NoSuchContainer(typed.to_owned()))?;
        let json = found.spec.map(|spec| spec.value).unwrap_or_default();
        let spec = Spec::parse(&json).map_err(|error| Error::failed(doing(), error))?;

        let user = match options.user.as_str() {
            "" => None,
            user => Some(user_of(user, &details, spec.groups()).await?),
        };
        let keys = DetachKeys::parse(&options.detach_keys)
            .ok_or_else(|| Error::InvalidEscapeKeys(options.detach_keys.clone()))?;
        let all = &self.host().capabilities;
        let process = spec.into_process(&options, user, container.tty, all);
        if options.user.is_empty() && container.owner == Owner::Nerdctld {
            options.user.clone_from(&details.process.user);
        }
        let id = ExecId::from_random(random::bytes()?);
        let exec = Arc::new(Exec::new(id.clone(), &container, options, keys, process));
        self.execs().add(Arc::clone(&exec));
        let extra = [("execID", id.to_string())];
        self.hub().publish(container_event(&container, exec.event("exec_create"), &extra));
        Ok(id)
    }
}

/// Whether processes can be added to it now (moby `daemon/exec.go`, `getActiveContainer`).
pub(super) fn takes_execs(container: &Container, typed: &str) -> Result<()> {
    match container.state.phase {
        Phase::Running => Ok(()),
        Phase::Paused => Err(Error::ExecPaused(typed.to_owned())),
        Phase::Restarting => Err(Error::ExecRestarting(container.id.to_string())),
        Phase::Created | Phase::Exited | Phase::Removing | Phase::Dead => {
            Err(Error::NotRunning(container.id.to_string()))
        }
    }
}

/// The OCI user that `asked` is in the container, by its own files as they are now. `groups` are those of the container's
/// process: what it has beyond its own user's was given to the container (`--group-add`), and so to every process in it.
async fn user_of(asked: &str, details: &ContainerDetails, groups: Vec<u32>) -> Result<Value> {
    let doing = || format!("look up user {asked}");
    let root = PathBuf::from(format!("/proc/{}/root", details.container.state.pid));
    let read = move || image_files::read_running(&File::open(root)?.into());
    let read = tokio::task::spawn_blocking(read).await;
    let (files, given) = match read.map_err(std::io::Error::from).flatten() {
        Ok(files) => {
            let given = given_groups(details, groups, &files);
            (files, given)
        }
        Err(error) if ImageFiles::are_needed_for(asked, &[]) => {
            return Err(Error::failed(doing(), error));
        }
        Err(_) => (ImageFiles::default(), Vec::new()),
    };
    let mut user = numbers(asked, &files)?;
    let mut all = user.additional_gids().clone().unwrap_or_default();
    all.extend(given);
    let mut seen = HashSet::new();
    all.retain(|group| seen.insert(*group));
    user.set_additional_gids(Some(all));
    serde_json::to_value(user).map_err(|error| Error::failed(doing(), error))
}

fn numbers(asked: &str, files: &ImageFiles) -> Result<User> {
    let ids = Ids::find(asked, files)?;
    ids.to_user().map_err(|error| Error::failed(format!("look up user {asked}"), error))
}

/// The groups that the container was given beside those of its user. Only of ours it is known what user was asked for.
fn given_groups(details: &ContainerDetails, groups: Vec<u32>, files: &ImageFiles) -> Vec<u32> {
    if details.container.owner != Owner::Nerdctld {
        return Vec::new();
    }
    let Ok(own) = numbers(&details.process.user, files) else { return Vec::new() };
    let own = own.additional_gids().clone().unwrap_or_default();
    groups.into_iter().filter(|group| !own.contains(group)).collect()
}
