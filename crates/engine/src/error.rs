//! Every way an operation can fail, in Docker's words.
//!
//! A variant is a situation. Its text is what the client reads after `Error response from daemon: `, so it names the
//! thing, what was wrong and, where a person can act, what to do. The texts are a contract: users' scripts and other
//! programs search for them (moby `daemon/errors.go` and the files beside it). The outer text never repeats its source;
//! the edge joins the chain with `: `.

use std::error::Error as StdError;

/// What kind of failure it is; the edge turns it into a status and nothing else does.
///
/// Docker's own nine classes (moby `errdefs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The thing does not exist.
    NotFound,
    /// The request itself is wrong; repeating it cannot help.
    Invalid,
    /// The thing is in a state that does not allow this.
    Conflict,
    /// Credentials are missing or wrong.
    Unauthorized,
    /// Not allowed, whatever the credentials.
    Forbidden,
    /// Nothing had to be done.
    NotModified,
    /// Not built.
    NotImplemented,
    /// A neighbour (containerd, a registry) does not answer now.
    Unavailable,
    /// Our fault, or one we cannot name better.
    Internal,
}

/// A foreign cause, kept for the chain.
pub type Cause = Box<dyn StdError + Send + Sync + 'static>;

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
#[expect(clippy::error_impl_error, reason = "read as engine::Error")]
#[non_exhaustive]
pub enum Error {
    // --- finding a container
    /// Nothing has that name or id.
    #[error("No such container: {0}")]
    NoSuchContainer(String),
    /// A prefix that several ids share.
    #[error("multiple IDs found with provided prefix: {0}")]
    AmbiguousContainer(String),
    /// An empty reference.
    #[error("container name or ID cannot be empty")]
    EmptyContainerRef,

    // --- creating
    /// No image of that name; the client's cue to pull.
    #[error("No such image: {0}")]
    NoSuchImage(String),
    /// The image exists, but not for the platform asked for.
    #[error(
        "image with reference {image} was found but does not provide the specified platform ({platform})"
    )]
    NoSuchPlatform {
        /// As typed.
        image: String,
        /// As asked.
        platform: String,
    },
    /// Somebody else has the name.
    #[error(
        "Conflict. The container name \"/{name}\" is already in use by container \"{id}\". You have to remove (or rename) that container to be able to reuse that name."
    )]
    NameInUse {
        /// The name without slash.
        name: String,
        /// Who has it.
        id: String,
    },
    /// Neither the request nor the image says what to run.
    #[error("no command specified")]
    NoCommand,
    /// A value of the request that cannot be meant.
    #[error("{0}")]
    InvalidParameter(String),
    /// `--init`, and no program for it.
    #[error(
        "no init for containers found in $PATH (docker-init, tini-static, tini): install tini, or create the container without an init"
    )]
    NoInit,
    /// Nobody has the devices that were asked for.
    #[error("could not select device driver {driver:?} with capabilities: {capabilities}")]
    NoDeviceDriver {
        /// As typed; often empty.
        driver: String,
        /// As Go prints a list of lists.
        capabilities: String,
    },
    /// The user or group is not in the image.
    #[error("unable to find user {user}: {reason}")]
    NoSuchUser {
        /// As typed.
        user: String,
        /// Docker's reason, for example `no matching entries in passwd file`.
        reason: String,
    },
    /// A path of the host that is to be mounted does not exist (`--mount`; with `-v` it is made).
    #[error("invalid mount config for type \"bind\": bind source path does not exist: {0}")]
    BindSourceMissing(String),
    /// A volume is declared where the image has a file.
    #[error("cannot mount volume over existing file, file exists {0}")]
    VolumeOverFile(String),
    /// A field that this daemon does not do (yet): refused by name, never dropped.
    #[error("{what} is not supported by nerdctld{hint}")]
    Unsupported {
        /// The field or operation, in Docker's spelling.
        what: String,
        /// What to do instead, starting with `: `, or empty.
        hint: String,
    },

    // --- states
    /// The operation needs a running container.
    #[error("container {0} is not running")]
    NotRunning(String),
    /// SIGKILL was sent, and nothing came of it.
    #[error("tried to kill container, but did not receive an exit event")]
    NoExitEvent,
    /// Pause of a paused container.
    #[error("container {0} is already paused")]
    AlreadyPaused(String),
    /// Unpause of one that is not paused.
    #[error("Container {0} is not paused")]
    NotPaused(String),
    /// The kernel or the runtime did not freeze it.
    #[error("cannot pause container {container}")]
    CannotPause {
        /// Its id.
        container: String,
        /// The runtime's words.
        #[source]
        source: Cause,
    },
    /// The kernel or the runtime did not thaw it.
    #[error("Cannot unpause container {container}")]
    CannotUnpause {
        /// Its id.
        container: String,
        /// The runtime's words.
        #[source]
        source: Cause,
    },
    /// Start of a paused container.
    #[error("cannot start a paused container, try unpause instead")]
    StartPaused,
    /// Another container whose namespace is to be joined cannot be joined.
    #[error("failed to join {namespace} namespace")]
    JoinFailed {
        /// `PID`, `IPC`.
        namespace: &'static str,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Its shared memory is its own.
    #[error(
        "container {0}: non-shareable IPC (hint: use IpcMode:shareable for the donor container)"
    )]
    NotShareable(String),
    /// The operation needs a container that runs, and not one that is about to.
    #[error("Container {0} is restarting, wait until the container is running")]
    IsRestarting(String),
    /// A change failed and has been undone; the class is the cause's.
    #[error("Cannot update container {container}")]
    CannotUpdate {
        /// Its id.
        container: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A change that contradicts what is set.
    #[error("{0}")]
    ConflictingUpdate(&'static str),
    /// A change of a container that is being removed.
    #[error("container is marked for removal and cannot be \"update\"")]
    UpdateRemoving,
    /// Start of a container that is being removed.
    #[error("container is marked for removal and cannot be started")]
    StartRemoving,
    /// Attach to a paused container.
    #[error("container {0} is paused, unpause the container before attach")]
    AttachPaused(String),
    /// Attach to a container in restart back-off.
    #[error("container {0} is restarting, wait until the container is running")]
    AttachRestarting(String),
    /// Already started, already stopped.
    #[error("nothing to do")]
    NotModified,
    /// A signal could not be delivered; the class is the cause's.
    #[error("cannot kill container: {container}")]
    CannotKill {
        /// As typed.
        container: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// Stop failed; the class is the cause's.
    #[error("cannot stop container: {container}")]
    CannotStop {
        /// As typed.
        container: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A restart failed; the class is the cause's.
    #[error("Cannot restart container {container}")]
    CannotRestart {
        /// As typed.
        container: String,
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// A rename from or to nothing.
    #[error("Neither old nor new names may be empty")]
    EmptyName,
    /// A rename that changes nothing.
    #[error("Renaming a container with the same name as its current name")]
    SameName,
    /// The new name cannot be had; the class is the cause's.
    #[error("Error when allocating new name")]
    NewName {
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The processes could not be listed.
    #[error(transparent)]
    Top(crate::containers::top::TopError),
    /// Removal needs force, or something first.
    #[error("cannot remove container \"{container}\": {reason}")]
    CannotRemove {
        /// As typed.
        container: String,
        /// In Docker's words.
        reason: &'static str,
    },
    /// Somebody is removing it already.
    #[error("removal of container {0} is already in progress")]
    RemovalInProgress(String),
    /// The runtime refused to start it.
    #[error("failed to create task for container: {message}")]
    StartFailed {
        /// The runtime's own words.
        message: String,
        /// 126, 127 or 128, as moby `daemon/start.go` derives it from the text.
        exit_code: u8,
    },
    /// The container's networks could not be set up.
    #[error("failed to set up container networking")]
    Networking {
        /// Why.
        #[source]
        source: Cause,
    },
    /// The container's networks could not be set up, for a reason of ours; the class is the cause's.
    #[error("failed to set up container networking")]
    NetworkSetup {
        /// Why.
        #[source]
        source: Box<Error>,
    },
    /// The container whose network is to be shared does not run.
    #[error(
        "cannot join network namespace of a non running container: container {container} is {status}"
    )]
    CannotJoin {
        /// Its name.
        container: String,
        /// What it does instead.
        status: &'static str,
    },
    /// The container whose network is to be shared does not exist.
    #[error("joining network namespace of container")]
    JoinMissing {
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// A container that is to be linked does not exist.
    #[error("could not get container for {container}")]
    LinkMissing {
        /// As typed.
        container: String,
        /// Why not.
        #[source]
        source: Box<Error>,
    },
    /// A linked container does not run.
    #[error("Cannot link to a non running container: /{name} AS {alias}")]
    LinkNotRunning {
        /// The linked one's name.
        name: String,
        /// `/web/alias`.
        alias: String,
    },
    /// A container's own name is no link.
    #[error("Conflict, cannot remove the default link name of the container")]
    DefaultLinkName,
    /// A linked container is in other networks only; its id.
    #[error("container {0} not attached to default bridge network")]
    LinkNotOnBridge(String),
    /// A container cannot share its own network with itself.
    #[error("cannot join own network namespace")]
    JoinItself,
    /// The container belongs to a pod.
    #[error(
        "cannot {verb} container {container}: it belongs to the Kubernetes pod {namespace}/{pod}, which the kubelet manages; use kubectl delete pod --namespace {namespace} {pod}"
    )]
    ManagedByKubernetes {
        /// `start`, `stop`, …
        verb: &'static str,
        /// As typed.
        container: String,
        /// The pod's namespace.
        namespace: String,
        /// The pod's name.
        pod: String,
    },

    // --- streams
    /// Neither stream was asked for.
    #[error("must specify at least one of 'stdout' or 'stderr'")]
    NoStreamSelected,
    /// Logs of what is going away.
    #[error("can not get logs from container which is dead or marked for removal")]
    LogsOfDead,
    /// The log's other end is not there.
    #[error("failed to create task for container: failed to initialize logging driver: {message}")]
    LogDriver {
        /// The driver's words.
        message: String,
    },
    /// The log driver keeps nothing that can be read.
    #[error("configured logging driver does not support reading")]
    LogsUnreadable,
    /// Bad detach keys on attach.
    #[error("Invalid detach keys ({0}) provided")]
    InvalidDetachKeys(String),

    // --- networks
    /// Nothing has that name or id.
    #[error("network {0} not found")]
    NetworkNotFound(String),
    /// A name or the start of an id that several networks share.
    #[error("network {typed} is ambiguous ({matches} matches found based on {basis})")]
    AmbiguousNetwork {
        /// As typed.
        typed: String,
        /// How many.
        matches: usize,
        /// `name` or `ID prefix`.
        basis: &'static str,
    },

    // --- files of a container
    /// Nothing is at the path.
    #[error("Could not find the file {path} in container {container}")]
    NoSuchPath {
        /// As typed.
        path: String,
        /// As typed.
        container: String,
    },
    /// A path that goes on behind a file.
    #[error("lstat {0}: not a directory")]
    NotADirectory(String),
    /// An archive is to be unpacked into what is no directory.
    #[error("extraction point is not a directory")]
    NotAnExtractionPoint,
    /// The container cannot write to its root, so neither can we.
    #[error("container rootfs is marked read-only")]
    ReadOnlyRoot,
    /// The container cannot write to that mount, so neither can we.
    #[error("mounted volume is marked read-only")]
    ReadOnlyVolume,
    /// A directory is to replace something else, or the other way round, and the client does not want that.
    #[error("{0}")]
    CannotOverwrite(String),
    /// What a client sent is no archive, or one that leads out of the directory.
    #[error("{0}")]
    BadArchive(String),
    /// Export of what is going away.
    #[error("You cannot export container {container} {reason}")]
    CannotExport {
        /// Its id.
        container: String,
        /// In Docker's words.
        reason: &'static str,
    },
    /// Commit of what is going away.
    #[error("You cannot commit container {container} {reason}")]
    CannotCommit {
        /// Its id.
        container: String,
        /// In Docker's words.
        reason: &'static str,
    },

    // --- mounts and volumes
    /// No volume of that name.
    #[error("get {0}: no such volume")]
    NoSuchVolume(String),
    /// Containers mount it.
    #[error("remove {volume}: volume is in use - [{}]", containers.join(", "))]
    VolumeInUse {
        /// As typed.
        volume: String,
        /// Their ids.
        containers: Vec<String>,
    },
    /// There are no other drivers than `local`.
    #[error(
        "create {volume}: error looking up volume plugin {driver}: plugin \"{driver}\" not found"
    )]
    NoSuchVolumeDriver {
        /// The volume's name.
        volume: String,
        /// As typed.
        driver: String,
    },
    /// Somebody prunes already.
    #[error("a prune operation is already running")]
    PruneRunning,
    /// The path within a volume or an image leads out of it.
    #[error("path concatenation escapes the base directory, base: {base}, subpath: {subpath}")]
    SubpathEscapes {
        /// The directory.
        base: String,
        /// As typed.
        subpath: String,
    },
    /// There is nothing at the path within a volume or an image.
    #[error("cannot access path {path}")]
    SubpathMissing {
        /// All of it.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Mounts do not travel from or to the source of a bind mount.
    #[error("path {path} is mounted on {mount} but it is not a {kind} mount")]
    NotPropagated {
        /// The source.
        path: String,
        /// The mount that it is on.
        mount: String,
        /// `shared`, or `shared or slave`.
        kind: &'static str,
    },

    // --- execs
    /// Nothing to run.
    #[error("No exec command specified")]
    NoExecCommand,
    /// No exec has this id, or not any more.
    #[error("No such exec instance: {0}")]
    NoSuchExec(String),
    /// Exec in a paused container.
    #[error("Container {0} is paused, unpause the container before exec")]
    ExecPaused(String),
    /// Exec in a container in restart back-off.
    #[error("Container {0} is restarting, wait until the container is running")]
    ExecRestarting(String),
    /// An exec is started once, and this one runs.
    #[error("exec command {0} is already running")]
    ExecIsRunning(String),
    /// An exec is started once, and this one has ended.
    #[error("exec command {0} has already run")]
    ExecHasRun(String),
    /// Bad detach keys on exec.
    #[error("Invalid escape keys ({0}) provided")]
    InvalidEscapeKeys(String),
    /// The runtime refused to start the process.
    #[error("{message}")]
    ExecFailed {
        /// The runtime's own words.
        message: String,
        /// 126, 127 or 128, as moby `daemon/errors.go` derives it from the text.
        exit_code: u8,
    },
    /// Resize of an exec whose process is not there (any more).
    #[error("exec process is not started")]
    ExecNotStarted,
    /// Resize of an exec that nobody starts.
    #[error("timeout waiting for exec session ready")]
    ExecNotReady,

    // --- images
    /// A reference that is not one.
    #[error("{0}")]
    InvalidReference(String),
    /// An id prefix that several images share.
    #[error("ambiguous reference: {0}")]
    AmbiguousImage(String),
    /// `scratch` is no image.
    #[error("'scratch' is a reserved name")]
    ReservedImageName,
    /// The registry knows nothing of the repository, or hides it.
    #[error(
        "pull access denied for {name}, repository does not exist or may require 'docker login'{detail}"
    )]
    PullAccessDenied {
        /// The familiar name.
        name: String,
        /// The registry's words, starting with `: `, or empty.
        detail: String,
    },
    /// The registry has no such tag or digest.
    #[error("failed to resolve reference \"{reference}\": {reference}: not found")]
    ManifestNotFound {
        /// The canonical reference.
        reference: String,
    },
    /// The index has nothing for the platform.
    #[error(
        "no matching manifest for {platform} in the manifest list entries: no match for platform in manifest: not found"
    )]
    NoMatchingManifest {
        /// As `linux/arm64/v8`.
        platform: String,
    },
    /// No image of that name to push.
    #[error("tag does not exist: {0}")]
    NoSuchTag(String),
    /// No tag at all of a repository to push.
    #[error("An image does not exist locally with the tag: {0}")]
    NoTagsToPush(String),
    /// A part of an image is not here, so it cannot be pushed.
    #[error("content digest {0}: not found")]
    ContentMissing(String),
    /// Wrong credentials.
    #[error("{0}")]
    Unauthorized(String),
    /// The registry asks us to slow down.
    #[error("toomanyrequests: {0}")]
    TooManyRequests(String),
    /// The registry answered something else that is wrong; it keeps its class.
    #[error("{message}")]
    Registry {
        /// What the registry said, with the reference.
        message: String,
        /// The class of its status.
        class: Class,
    },
    /// Content that is not what its digest, size or type says.
    #[error("{0}")]
    BadContent(String),
    /// An image that must stay.
    #[error("conflict: unable to delete {image} ({force}) - {reason}")]
    ImageInUse {
        /// As typed.
        image: String,
        /// `cannot be forced` or `must be forced`.
        force: &'static str,
        /// In Docker's words.
        reason: String,
    },

    // --- neighbours
    /// containerd does not answer.
    #[error("cannot connect to containerd at {address}; is it running?")]
    ContainerdUnavailable {
        /// The socket.
        address: String,
        /// The transport's words.
        #[source]
        source: Cause,
    },
    /// The first look at containerd is not finished.
    #[error("nerdctld is still reading containerd's state; try again in a moment")]
    NotLoaded,
    /// The operation was cancelled because the daemon is shutting down.
    #[error("the daemon is shutting down")]
    ShuttingDown,
    /// Anything else, with what was being done.
    #[error("{doing}")]
    Failed {
        /// For example `create the state directory of container 0123…`.
        doing: String,
        /// Why.
        #[source]
        source: Cause,
    },
}

impl Error {
    /// Wrap a foreign cause with what was being done.
    pub fn failed(doing: impl Into<String>, source: impl Into<Cause>) -> Self {
        Self::Failed { doing: doing.into(), source: source.into() }
    }

    /// A field or operation that is refused by name.
    pub fn unsupported(what: impl Into<String>) -> Self {
        Self::Unsupported { what: what.into(), hint: String::new() }
    }

    /// The class that decides the status.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NoSuchContainer(_)
            | Self::NoSuchExec(_)
            | Self::NoSuchImage(_)
            | Self::NoSuchPlatform { .. }
            | Self::PullAccessDenied { .. }
            | Self::ManifestNotFound { .. }
            | Self::NoMatchingManifest { .. }
            | Self::NoSuchTag(_)
            | Self::NoTagsToPush(_)
            | Self::ContentMissing(_)
            | Self::NetworkNotFound(_)
            | Self::NoSuchPath { .. }
            | Self::NoSuchVolume(_)
            | Self::NoSuchVolumeDriver { .. }
            | Self::SubpathMissing { .. }
            | Self::AmbiguousImage(_) => Class::NotFound,
            Self::AmbiguousContainer(_)
            | Self::EmptyContainerRef
            | Self::EmptyName
            | Self::SameName
            | Self::NoCommand
            | Self::BindSourceMissing(_)
            | Self::VolumeOverFile(_)
            | Self::SubpathEscapes { .. }
            | Self::NotPropagated { .. }
            | Self::NoDeviceDriver { .. }
            | Self::NotShareable(_)
            | Self::InvalidParameter(_)
            | Self::NoSuchUser { .. }
            | Self::StartFailed { .. }
            | Self::NoExecCommand
            | Self::InvalidEscapeKeys(_)
            | Self::ExecFailed { exit_code: 126 | 127, .. }
            | Self::ExecNotStarted
            | Self::NoStreamSelected
            | Self::InvalidDetachKeys(_)
            | Self::NotADirectory(_)
            | Self::NotAnExtractionPoint
            | Self::ReadOnlyRoot
            | Self::ReadOnlyVolume
            | Self::BadArchive(_)
            | Self::InvalidReference(_)
            | Self::AmbiguousNetwork { .. }
            | Self::JoinItself
            | Self::LinkMissing { .. }
            | Self::BadContent(_) => Class::Invalid,
            Self::NameInUse { .. }
            | Self::NotRunning(_)
            | Self::IsRestarting(_)
            | Self::ConflictingUpdate(_)
            | Self::UpdateRemoving
            | Self::AlreadyPaused(_)
            | Self::StartPaused
            | Self::StartRemoving
            | Self::CannotJoin { .. }
            | Self::AttachPaused(_)
            | Self::AttachRestarting(_)
            | Self::ExecPaused(_)
            | Self::ExecRestarting(_)
            | Self::ExecIsRunning(_)
            | Self::ExecHasRun(_)
            | Self::CannotRemove { .. }
            | Self::RemovalInProgress(_)
            | Self::ManagedByKubernetes { .. }
            | Self::LogsOfDead
            | Self::CannotExport { .. }
            | Self::VolumeInUse { .. }
            | Self::PruneRunning
            | Self::CannotCommit { .. }
            | Self::ImageInUse { .. } => Class::Conflict,
            Self::NotModified => Class::NotModified,
            Self::CannotKill { source, .. }
            | Self::CannotStop { source, .. }
            | Self::CannotUpdate { source, .. }
            | Self::CannotRestart { source, .. }
            | Self::NetworkSetup { source }
            | Self::NewName { source } => source.class(),
            Self::Unsupported { .. } | Self::LogsUnreadable => Class::NotImplemented,
            Self::ReservedImageName => Class::Forbidden,
            Self::Unauthorized(_) => Class::Unauthorized,
            Self::Registry { class, .. } => *class,
            Self::ContainerdUnavailable { .. } | Self::NotLoaded | Self::ShuttingDown => {
                Class::Unavailable
            }
            Self::JoinFailed { source, .. } if matches!(**source, Self::NotShareable(_)) => {
                Class::Invalid
            }
            // dockerd takes what else goes wrong when it writes the spec at start for its own fault.
            Self::JoinFailed { .. }
            | Self::NoInit
            | Self::NoExitEvent
            | Self::TooManyRequests(_)
            | Self::Networking { .. }
            | Self::JoinMissing { .. }
            | Self::LinkNotRunning { .. }
            | Self::LinkNotOnBridge(_)
            | Self::DefaultLinkName
            | Self::CannotOverwrite(_)
            | Self::LogDriver { .. }
            | Self::NotPaused(_)
            | Self::CannotPause { .. }
            | Self::CannotUnpause { .. }
            | Self::Top(_)
            | Self::ExecFailed { .. }
            | Self::ExecNotReady
            | Self::Failed { .. } => Class::Internal,
        }
    }

    /// The whole chain, joined as Docker's clients see it.
    #[must_use]
    pub fn message(&self) -> String {
        let mut text = self.to_string();
        let mut source = StdError::source(self);
        while let Some(cause) = source {
            text.push_str(": ");
            text.push_str(&cause.to_string());
            source = cause.source();
        }
        text
    }
}
