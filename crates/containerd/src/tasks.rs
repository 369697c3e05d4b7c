//! Tasks: the processes of containers.
//!
//! A task is what runs for a container record. Its first process has no exec id; further ones
//! (execs) do. Where a method takes `exec_id: Option<&str>`, `None` is the first process.
//!
//! Errors of the shim about a wrong state arrive as [`crate::Kind::Unknown`]; check the state
//! first, and use [`crate::classify`] for the races that remain.

use std::collections::HashMap;
use std::time::SystemTime;

use containerd_client::services::v1::{
    CloseIoRequest, CreateTaskRequest, DeleteProcessRequest, DeleteResponse, DeleteTaskRequest,
    ExecProcessRequest, GetRequest, KillRequest, ListPidsRequest, ListTasksRequest, MetricsRequest,
    PauseTaskRequest, ResizePtyRequest, ResumeTaskRequest, StartRequest, UpdateTaskRequest,
    WaitRequest, WaitResponse,
};
use containerd_client::types::v1::{Process, Status as WireStatus};

use crate::call::Call;
use crate::messages::ProcessDetails;
use crate::{Any, Client, Mount, Result, filter, wire};

/// A task, or an exec in one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Id of the container; of the exec when that was asked for.
    pub id: String,
    /// Process id on the host; 0 for an exec that has not started.
    pub pid: u32,
    /// What it is doing.
    pub status: TaskStatus,
    /// Exit status, once stopped; 128 + n after signal n.
    pub exit_status: u32,
    /// When it stopped.
    pub exited_at: Option<SystemTime>,
    /// FIFO for input; empty = none.
    pub stdin: String,
    /// FIFO or URI for output.
    pub stdout: String,
    /// FIFO or URI for errors; unused with a terminal.
    pub stderr: String,
    /// Whether it has a terminal.
    pub terminal: bool,
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TaskStatus {
    /// The shim did not answer containerd in time.
    Unknown,
    /// Made, its process waits for start.
    Created,
    /// Running.
    Running,
    /// Ended; the exit status is kept until the task is deleted.
    Stopped,
    /// Frozen.
    Paused,
    /// Being frozen.
    Pausing,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// 128 + n after signal n.
    pub status: u32,
    /// When, if containerd knows.
    pub exited_at: Option<SystemTime>,
}

/// A task to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CreateTask {
    /// The container, whose record must exist.
    pub container_id: String,
    /// Root file system, as [`crate::snapshots::Snapshotter::mounts`] gives it; empty = the spec's
    /// absolute `root.path`.
    pub rootfs: Vec<Mount>,
    /// FIFO for input; empty = none.
    pub stdin: String,
    /// FIFO or URI for output. FIFOs must have a reader already, or creation fails after 30 s.
    pub stdout: String,
    /// FIFO or URI for errors. Without a terminal: both or neither.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
    /// Options of the runtime, instead of the record's.
    pub options: Option<Any>,
}

/// A further process for a task.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecTask {
    /// The container.
    pub container_id: String,
    /// Id of the exec, by the same rule as container ids; unique in the task.
    pub exec_id: String,
    /// OCI process: [`Any::oci_process`].
    pub process: Any,
    /// FIFO for input; empty = none.
    pub stdin: String,
    /// FIFO or URI for output; opened when the exec starts.
    pub stdout: String,
    /// FIFO or URI for errors.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// A process inside a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskPid {
    /// Process id on the host.
    pub pid: u32,
    /// The exec that it is the first process of.
    pub exec_id: Option<String>,
}

/// Measurements of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metrics {
    /// When they were taken.
    pub timestamp: SystemTime,
    /// `io.containerd.cgroups.v1.Metrics` or `…v2.Metrics`, undecoded.
    pub data: Any,
}

impl Client {
    /// Makes a task: starts a shim, mounts the root file system and runs the OCI runtime's
    /// `create`, with its hooks. Gives the process id. Deadline 10 min; the shim's own for stdio is
    /// 30 s.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`] if there is one; [`crate::Kind::NotFound`] without a record;
    /// [`crate::Kind::DeadlineExceeded`] if nobody reads a FIFO; [`crate::Kind::Unknown`] with
    /// runc's words.
    pub async fn create_task(&self, task: CreateTask) -> Result<u32> {
        let id = task.container_id.clone();
        let mut service = self.tasks_service();
        let request = CreateTaskRequest {
            container_id: task.container_id,
            rootfs: task.rootfs.into_iter().map(Into::into).collect(),
            stdin: task.stdin,
            stdout: task.stdout,
            stderr: task.stderr,
            terminal: task.terminal,
            options: task.options.map(Into::into),
            ..CreateTaskRequest::default()
        };
        let call = Call::long("create task", &id);
        Ok(self.unary(call, request, |request| service.create(request)).await?.pid)
    }

    /// Starts a created task. Gives the process id.
    ///
    /// # Errors
    /// [`crate::Kind::Unknown`] with runc's words, also if it runs already.
    pub async fn start_task(&self, id: &str) -> Result<u32> {
        self.start(Call::long("start task", id), id, "").await
    }

    /// Starts an exec. Gives the process id. One that failed to start must still be removed with
    /// [`Client::delete_process`].
    ///
    /// # Errors
    /// [`crate::Kind::Unknown`] with runc's words.
    pub async fn start_exec(&self, id: &str, exec_id: &str) -> Result<u32> {
        self.start(Call::long("start exec", exec_id), id, exec_id).await
    }

    async fn start(&self, call: Call<'_>, id: &str, exec_id: &str) -> Result<u32> {
        let mut service = self.tasks_service();
        let request = StartRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        Ok(self.unary(call, request, |request| service.start(request)).await?.pid)
    }

    /// Deletes a stopped task, or a created one, which is killed. Waits for its output to be read:
    /// 2 s (containerd 1.6) or 10 s at most. Deadline 10 min.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] while it runs.
    pub async fn delete_task(&self, id: &str) -> Result<Exit> {
        let mut service = self.tasks_service();
        let request = DeleteTaskRequest { container_id: id.to_owned() };
        let call = Call::long("delete task", id);
        Ok(self.unary(call, request, |request| service.delete(request)).await?.into())
    }

    /// Deletes a stopped exec and so frees its id.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] while it runs.
    pub async fn delete_process(&self, id: &str, exec_id: &str) -> Result<Exit> {
        let mut service = self.tasks_service();
        let request =
            DeleteProcessRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        let call = Call::long("delete exec", exec_id);
        Ok(self.unary(call, request, |request| service.delete_process(request)).await?.into())
    }

    /// The task of a container.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] if it has none.
    pub async fn get_task(&self, id: &str) -> Result<Task> {
        self.get_process(Call::short("get task", id), id, "").await
    }

    /// An exec of a task.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn get_exec(&self, id: &str, exec_id: &str) -> Result<Task> {
        self.get_process(Call::short("get exec", exec_id), id, exec_id).await
    }

    async fn get_process(&self, call: Call<'_>, id: &str, exec_id: &str) -> Result<Task> {
        let mut service = self.tasks_service();
        let request = GetRequest { container_id: id.to_owned(), exec_id: exec_id.to_owned() };
        let answer = self.unary(call, request, |request| service.get(request)).await?;
        call.required(answer.process, "process").map(Into::into)
    }

    /// All tasks of the namespace. Slow when a shim hangs (2 s each), so not for a request's path.
    ///
    /// # Errors
    /// [`crate::Kind::Unavailable`], [`crate::Kind::DeadlineExceeded`].
    pub async fn list_tasks(&self) -> Result<Vec<Task>> {
        let mut service = self.tasks_service();
        let call = Call::list("list tasks", "");
        let request = ListTasksRequest::default();
        let answer = self.unary(call, request, |request| service.list(request)).await?;
        Ok(answer.tasks.into_iter().map(Into::into).collect())
    }

    /// Sends a signal; `all` also to the other processes of the container.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] without a task or when the process has ended.
    pub async fn kill(
        &self,
        id: &str,
        exec_id: Option<&str>,
        signal: u32,
        all: bool,
    ) -> Result<()> {
        let mut service = self.tasks_service();
        let request = KillRequest {
            container_id: id.to_owned(),
            exec_id: exec_id.unwrap_or_default().to_owned(),
            signal,
            all,
        };
        let call = Call::short("kill", exec_id.unwrap_or(id));
        self.unary(call, request, |request| service.kill(request)).await
    }

    /// Waits for a process to end, however long that takes; at once when it has. Drop to stop
    /// waiting.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] after the task was deleted; [`crate::Kind::Unavailable`] when
    /// containerd goes away; [`crate::Kind::Unknown`] when the shim dies
    /// ([`crate::classify::ShimProblem::ShimGone`]).
    pub async fn wait(&self, id: &str, exec_id: Option<&str>) -> Result<Exit> {
        let mut service = self.tasks_service();
        let request = WaitRequest {
            container_id: id.to_owned(),
            exec_id: exec_id.unwrap_or_default().to_owned(),
        };
        let call = Call::unlimited("wait for", exec_id.unwrap_or(id));
        Ok(self.unary(call, request, |request| service.wait(request)).await?.into())
    }

    /// Freezes all processes.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] in a wrong state.
    pub async fn pause(&self, id: &str) -> Result<()> {
        let mut service = self.tasks_service();
        let request = PauseTaskRequest { container_id: id.to_owned() };
        self.unary(Call::short("pause", id), request, |request| service.pause(request)).await
    }

    /// Thaws all processes.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] in a wrong state.
    pub async fn resume(&self, id: &str) -> Result<()> {
        let mut service = self.tasks_service();
        let request = ResumeTaskRequest { container_id: id.to_owned() };
        self.unary(Call::short("resume", id), request, |request| service.resume(request)).await
    }

    /// Sets the size of a terminal, in characters. Without a terminal it does nothing.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] when the process has ended.
    pub async fn resize_pty(
        &self,
        id: &str,
        exec_id: Option<&str>,
        width: u32,
        height: u32,
    ) -> Result<()> {
        let mut service = self.tasks_service();
        let request = ResizePtyRequest {
            container_id: id.to_owned(),
            exec_id: exec_id.unwrap_or_default().to_owned(),
            width,
            height,
        };
        let call = Call::short("resize terminal of", exec_id.unwrap_or(id));
        self.unary(call, request, |request| service.resize_pty(request)).await
    }

    /// Lets go of the shim's end of the input FIFO: the process sees the end of its input once the
    /// last other writer closed it too. Never for a terminal, whose process would be hung up.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`].
    pub async fn close_io(&self, id: &str, exec_id: Option<&str>) -> Result<()> {
        let mut service = self.tasks_service();
        let request = CloseIoRequest {
            container_id: id.to_owned(),
            exec_id: exec_id.unwrap_or_default().to_owned(),
            stdin: true,
        };
        let call = Call::short("close input of", exec_id.unwrap_or(id));
        self.unary(call, request, |request| service.close_io(request)).await
    }

    /// All processes of a task, with host process ids. Runs the OCI runtime's `ps`.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] when it has ended.
    pub async fn list_pids(&self, id: &str) -> Result<Vec<TaskPid>> {
        let mut service = self.tasks_service();
        let request = ListPidsRequest { container_id: id.to_owned() };
        let call = Call::short("list processes of", id);
        let answer = self.unary(call, request, |request| service.list_pids(request)).await?;
        answer
            .processes
            .into_iter()
            .map(|process| {
                let details = process.info.map(|any| Any::from(any).decode::<ProcessDetails>());
                let exec_id = details.transpose()?.flatten().map(|details| details.exec_id);
                Ok(TaskPid { pid: process.pid, exec_id })
            })
            .collect()
    }

    /// Registers a further process, which [`Client::start_exec`] then starts.
    ///
    /// # Errors
    /// [`crate::Kind::AlreadyExists`] for an id in use; [`crate::Kind::Unknown`] when the task is
    /// paused or has ended.
    pub async fn exec(&self, exec: ExecTask) -> Result<()> {
        let exec_id = exec.exec_id.clone();
        let mut service = self.tasks_service();
        let request = ExecProcessRequest {
            container_id: exec.container_id,
            exec_id: exec.exec_id,
            spec: Some(exec.process.into()),
            stdin: exec.stdin,
            stdout: exec.stdout,
            stderr: exec.stderr,
            terminal: exec.terminal,
        };
        let call = Call::short("create exec", &exec_id);
        self.unary(call, request, |request| service.exec(request)).await?;
        Ok(())
    }

    /// Changes the resource limits of a running task: [`Any::linux_resources`].
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`]; [`crate::Kind::Unknown`] with runc's words, or when it has ended.
    pub async fn update_task(&self, id: &str, resources: Any) -> Result<()> {
        let mut service = self.tasks_service();
        let request = UpdateTaskRequest {
            container_id: id.to_owned(),
            resources: Some(resources.into()),
            annotations: HashMap::new(),
        };
        self.unary(Call::long("update task", id), request, |request| service.update(request)).await
    }

    /// Measurements of one task.
    ///
    /// # Errors
    /// [`crate::Kind::NotFound`] if containerd has none of it.
    pub async fn metrics(&self, id: &str) -> Result<Metrics> {
        let mut service = self.tasks_service();
        let call = Call::short("measure", id);
        let request = MetricsRequest { filters: vec![filter::equals("id", id)] };
        let answer = self.unary(call, request, |request| service.metrics(request)).await?;
        let metric = answer.metrics.into_iter().find(|metric| metric.id == id);
        let metric = metric.ok_or_else(|| call.error(crate::Kind::NotFound, "no metrics"))?;
        let data = call.required(metric.data, "data")?.into();
        Ok(Metrics { timestamp: wire::recorded_instant(metric.timestamp), data })
    }
}

impl From<Process> for Task {
    fn from(process: Process) -> Self {
        Self {
            status: process.status().into(),
            id: process.id,
            pid: process.pid,
            exit_status: process.exit_status,
            exited_at: wire::instant(process.exited_at),
            stdin: process.stdin,
            stdout: process.stdout,
            stderr: process.stderr,
            terminal: process.terminal,
        }
    }
}

impl From<WireStatus> for TaskStatus {
    fn from(status: WireStatus) -> Self {
        match status {
            WireStatus::Unknown => Self::Unknown,
            WireStatus::Created => Self::Created,
            WireStatus::Running => Self::Running,
            WireStatus::Stopped => Self::Stopped,
            WireStatus::Paused => Self::Paused,
            WireStatus::Pausing => Self::Pausing,
        }
    }
}

impl From<DeleteResponse> for Exit {
    fn from(answer: DeleteResponse) -> Self {
        Self { status: answer.exit_status, exited_at: wire::instant(answer.exited_at) }
    }
}

impl From<WaitResponse> for Exit {
    fn from(answer: WaitResponse) -> Self {
        Self { status: answer.exit_status, exited_at: wire::instant(answer.exited_at) }
    }
}
