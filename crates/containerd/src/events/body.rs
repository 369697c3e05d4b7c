//! The details of an event, by its type.

use containerd_client::events::{
    ContainerCreate, ContainerDelete, ContainerUpdate, ContentCreate, ContentDelete,
    NamespaceCreate, NamespaceDelete, NamespaceUpdate, SnapshotCommit, SnapshotPrepare,
    SnapshotRemove, TaskCheckpointed, TaskCreate, TaskDelete, TaskExecAdded, TaskExecStarted,
    TaskExit, TaskOom, TaskPaused, TaskResumed, TaskStart,
};
use containerd_client::services::v1::{ImageCreate, ImageDelete, ImageUpdate};
use prost::{Message, Name};

use crate::tasks::Exit;
use crate::{Any, wire};

/// What happened, one variant per topic.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the fields are ids and names; each variant says of what")]
pub enum EventBody {
    /// `/tasks/create`: the process is there and waits for start.
    TaskCreate { container_id: String, pid: u32 },
    /// `/tasks/start`.
    TaskStart { container_id: String, pid: u32 },
    /// `/tasks/exec-added`: registered, not running.
    TaskExecAdded { container_id: String, exec_id: String },
    /// `/tasks/exec-started`.
    TaskExecStarted { container_id: String, exec_id: String, pid: u32 },
    /// `/tasks/exit`: of the first process, or of an exec.
    TaskExit { container_id: String, exec_id: Option<String>, pid: u32, exit: Exit },
    /// `/tasks/delete`: of the task; execs have none.
    TaskDelete { container_id: String, pid: u32, exit: Exit },
    /// `/tasks/oom`: the kernel killed a process for memory; may come after the exit.
    TaskOom { container_id: String },
    /// `/tasks/paused`.
    TaskPaused { container_id: String },
    /// `/tasks/resumed`.
    TaskResumed { container_id: String },
    /// `/tasks/checkpointed`.
    TaskCheckpointed { container_id: String },
    /// `/containers/create`: a record.
    ContainerCreate { id: String, image: String },
    /// `/containers/update`: a record.
    ContainerUpdate { id: String, image: String },
    /// `/containers/delete`: a record.
    ContainerDelete { id: String },
    /// `/images/create`.
    ImageCreate { name: String },
    /// `/images/update`.
    ImageUpdate { name: String },
    /// `/images/delete`.
    ImageDelete { name: String },
    /// `/snapshot/prepare`; the snapshotter is empty before containerd 1.7.
    SnapshotPrepare { key: String, parent: String, snapshotter: String },
    /// `/snapshot/commit`; the snapshotter is empty before containerd 1.7.
    SnapshotCommit { key: String, name: String, snapshotter: String },
    /// `/snapshot/remove`; the snapshotter is empty before containerd 1.7.
    SnapshotRemove { key: String, snapshotter: String },
    /// `/content/create`: a blob; containerd 2.1+.
    ContentCreate { digest: String, size: u64 },
    /// `/content/delete`: a blob.
    ContentDelete { digest: String },
    /// `/namespaces/create`.
    NamespaceCreate { name: String },
    /// `/namespaces/update`.
    NamespaceUpdate { name: String },
    /// `/namespaces/delete`.
    NamespaceDelete { name: String },
    /// Anything else, undecoded.
    Other(Any),
}

impl From<Any> for EventBody {
    fn from(any: Any) -> Self {
        match known(&any) {
            Some(body) => body,
            None => Self::Other(any),
        }
    }
}

/// The body of an event whose type we know. One that does not decode counts as not known: the
/// stream must go on.
fn known(any: &Any) -> Option<EventBody> {
    DECODERS.iter().find_map(|decoder| decoder(any))
}

/// One decoder per type; each looks at the name first.
const DECODERS: &[fn(&Any) -> Option<EventBody>] = &[
    decode::<TaskExit>,
    decode::<TaskCreate>,
    decode::<TaskStart>,
    decode::<TaskDelete>,
    decode::<TaskExecAdded>,
    decode::<TaskExecStarted>,
    decode::<TaskOom>,
    decode::<TaskPaused>,
    decode::<TaskResumed>,
    decode::<TaskCheckpointed>,
    decode::<ContainerCreate>,
    decode::<ContainerUpdate>,
    decode::<ContainerDelete>,
    decode::<ImageCreate>,
    decode::<ImageUpdate>,
    decode::<ImageDelete>,
    decode::<SnapshotPrepare>,
    decode::<SnapshotCommit>,
    decode::<SnapshotRemove>,
    decode::<ContentCreate>,
    decode::<ContentDelete>,
    decode::<NamespaceCreate>,
    decode::<NamespaceUpdate>,
    decode::<NamespaceDelete>,
];

fn decode<M: Message + Name + Default + Into<EventBody>>(any: &Any) -> Option<EventBody> {
    any.decode::<M>().ok().flatten().map(Into::into)
}

impl From<TaskExit> for EventBody {
    fn from(event: TaskExit) -> Self {
        // The first process carries the container's id.
        let exec_id = (event.id != event.container_id).then_some(event.id);
        let exit = Exit { status: event.exit_status, exited_at: wire::instant(event.exited_at) };
        Self::TaskExit { container_id: event.container_id, exec_id, pid: event.pid, exit }
    }
}

impl From<TaskDelete> for EventBody {
    fn from(event: TaskDelete) -> Self {
        let exit = Exit { status: event.exit_status, exited_at: wire::instant(event.exited_at) };
        Self::TaskDelete { container_id: event.container_id, pid: event.pid, exit }
    }
}

impl From<ContentCreate> for EventBody {
    fn from(event: ContentCreate) -> Self {
        Self::ContentCreate { digest: event.digest, size: wire::unsigned(event.size) }
    }
}

/// The bodies whose fields go over as they are.
macro_rules! same_fields {
    ($($event:ident { $($field:ident),* };)*) => {
        $(impl From<$event> for EventBody {
            fn from(event: $event) -> Self {
                Self::$event { $($field: event.$field),* }
            }
        })*
    };
}

same_fields! {
    TaskCreate { container_id, pid };
    TaskStart { container_id, pid };
    TaskExecAdded { container_id, exec_id };
    TaskExecStarted { container_id, exec_id, pid };
    TaskOom { container_id };
    TaskPaused { container_id };
    TaskResumed { container_id };
    TaskCheckpointed { container_id };
    ContainerCreate { id, image };
    ContainerUpdate { id, image };
    ContainerDelete { id };
    ImageCreate { name };
    ImageUpdate { name };
    ImageDelete { name };
    SnapshotPrepare { key, parent, snapshotter };
    SnapshotCommit { key, name, snapshotter };
    SnapshotRemove { key, snapshotter };
    ContentDelete { digest };
    NamespaceCreate { name };
    NamespaceUpdate { name };
    NamespaceDelete { name };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_tells_first_process_from_exec() {
        let exit = |id: &str| {
            let event = TaskExit {
                container_id: "c".into(),
                id: id.into(),
                pid: 7,
                exit_status: 137,
                exited_at: None,
            };
            EventBody::from(Any::message(&event))
        };
        let wanted = |exec_id| EventBody::TaskExit {
            container_id: "c".into(),
            exec_id,
            pid: 7,
            exit: Exit { status: 137, exited_at: None },
        };
        assert_eq!(exit("c"), wanted(None));
        assert_eq!(exit("e1"), wanted(Some("e1".into())));
    }

    #[test]
    fn what_is_not_known_or_broken_stays_raw() {
        for any in [
            Any::new("containerd.events.SandboxCreate", vec![1]),
            Any::new("containerd.events.TaskExit", vec![0xff]),
        ] {
            assert_eq!(EventBody::from(any.clone()), EventBody::Other(any));
        }
    }
}
