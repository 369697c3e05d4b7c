//! The system calls that every container may use, grouped by what they are for.
//!
//! Names are those of libseccomp; runc skips the ones that the installed libseccomp or the architecture does not know.
//! The set is that of Docker 29's default profile (moby `profiles/seccomp`, version 0.2.3). Not in it, and so refused:
//! what changes the machine (mounts, modules, clocks, reboot), what observes or steers other processes, the kernel's
//! keyrings (they have no namespaces), and io_uring (it walks around this filter).

use oci_spec::runtime::Capability;

/// Names, metadata, links and directories.
const FILES: &str = "\
    access chdir chmod chown chown32 creat faccessat faccessat2 fchdir fchmod fchmodat fchmodat2 fchown fchown32 \
    fchownat fstat fstat64 fstatat64 fstatfs fstatfs64 ftruncate ftruncate64 futimesat getcwd getdents getdents64 \
    lchown lchown32 link linkat listmount lstat lstat64 mkdir mkdirat mknod mknodat name_to_handle_at newfstatat \
    open openat openat2 readlink readlinkat rename renameat renameat2 rmdir stat stat64 statfs statfs64 statmount \
    statx symlink symlinkat truncate truncate64 umask unlink unlinkat utime utimensat utimensat_time64 utimes";
/// Extended attributes.
const ATTRIBUTES: &str = "\
    fgetxattr flistxattr fremovexattr fsetxattr getxattr getxattrat lgetxattr listxattr listxattrat llistxattr \
    lremovexattr lsetxattr removexattr removexattrat setxattr setxattrat";
/// Reading, writing and managing open files.
const DESCRIPTORS: &str = "\
    close close_range copy_file_range dup dup2 dup3 fadvise64 fadvise64_64 fallocate fcntl fcntl64 fdatasync flock \
    fsync ioctl _llseek lseek pipe pipe2 pread64 preadv preadv2 pwrite64 pwritev pwritev2 read readahead readv \
    sendfile sendfile64 splice sync sync_file_range syncfs tee vmsplice write writev";
/// Waiting for files and being told of changes.
const WATCHES: &str = "\
    epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_pwait epoll_pwait2 epoll_wait epoll_wait_old eventfd \
    eventfd2 fanotify_mark inotify_add_watch inotify_init inotify_init1 inotify_rm_watch _newselect poll ppoll \
    ppoll_time64 pselect6 pselect6_time64 select signalfd signalfd4";
/// POSIX-like asynchronous input and output (io_uring is not allowed).
const ASYNC_IO: &str = "io_cancel io_destroy io_getevents io_pgetevents io_pgetevents_time64 io_setup io_submit ioprio_get ioprio_set";
/// Address space.
const MEMORY: &str = "\
    brk cachestat madvise map_shadow_stack membarrier memfd_create memfd_secret mincore mlock mlock2 mlockall mmap \
    mmap2 mprotect mremap mseal msync munlock munlockall munmap pkey_alloc pkey_free pkey_mprotect remap_file_pages";
/// Processes and threads; clone has rules of its own below.
const PROCESSES: &str = "\
    execve execveat exit exit_group fork get_robust_list get_thread_area getcpu getpgid getpgrp getpid getppid \
    getpriority getrlimit getrusage getsid gettid kill pidfd_open pidfd_send_signal prctl prlimit64 process_mrelease \
    restart_syscall riscv_hwprobe rseq set_robust_list set_thread_area set_tid_address setpgid setpriority setrlimit \
    setsid tgkill tkill ugetrlimit uretprobe vfork wait4 waitid waitpid";
/// Users, groups and capabilities of the caller.
const IDENTITY: &str = "\
    capget capset getegid getegid32 geteuid geteuid32 getgid getgid32 getgroups getgroups32 getresgid getresgid32 \
    getresuid getresuid32 getuid getuid32 setfsgid setfsgid32 setfsuid setfsuid32 setgid setgid32 setgroups \
    setgroups32 setregid setregid32 setresgid setresgid32 setresuid setresuid32 setreuid setreuid32 setuid setuid32";
/// What a process can do to restrict itself.
const RESTRICTIONS: &str =
    "landlock_add_rule landlock_create_ruleset landlock_restrict_self seccomp";
/// Signals.
const SIGNALS: &str = "\
    alarm pause rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_sigreturn rt_sigsuspend rt_sigtimedwait \
    rt_sigtimedwait_time64 rt_tgsigqueueinfo sigaltstack sigprocmask sigreturn";
/// Scheduling of the caller and its threads.
const SCHEDULING: &str = "\
    sched_get_priority_max sched_get_priority_min sched_getaffinity sched_getattr sched_getparam sched_getscheduler \
    sched_rr_get_interval sched_rr_get_interval_time64 sched_setaffinity sched_setattr sched_setparam \
    sched_setscheduler sched_yield";
/// Futexes.
const SYNCHRONISATION: &str = "futex futex_requeue futex_time64 futex_wait futex_waitv futex_wake";
/// Clocks, timers and sleeping; setting a clock needs CAP_SYS_TIME all the same.
const TIME: &str = "\
    adjtimex clock_adjtime clock_adjtime64 clock_getres clock_getres_time64 clock_gettime clock_gettime64 \
    clock_nanosleep clock_nanosleep_time64 getitimer gettimeofday nanosleep setitimer time timer_create timer_delete \
    timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64 timerfd_create timerfd_gettime \
    timerfd_gettime64 timerfd_settime timerfd_settime64 times";
/// System V and POSIX message queues, semaphores, shared memory.
const SYSTEM_V_IPC: &str = "\
    ipc mq_getsetattr mq_notify mq_open mq_timedreceive mq_timedreceive_time64 mq_timedsend mq_timedsend_time64 \
    mq_unlink msgctl msgget msgrcv msgsnd semctl semget semop semtimedop semtimedop_time64 shmat shmctl shmdt shmget";
/// Sockets once they exist; socket itself has rules of its own below.
const SOCKETS: &str = "\
    accept accept4 bind connect getpeername getsockname getsockopt listen recv recvfrom recvmmsg recvmmsg_time64 \
    recvmsg send sendmmsg sendmsg sendto setsockopt shutdown socketcall socketpair";
/// Asking about the machine.
const SYSTEM: &str = "getrandom sysinfo uname";

/// All groups.
pub(super) const ALWAYS_ALLOWED: &[&str] = &[
    FILES,
    ATTRIBUTES,
    DESCRIPTORS,
    WATCHES,
    ASYNC_IO,
    MEMORY,
    PROCESSES,
    IDENTITY,
    RESTRICTIONS,
    SIGNALS,
    SCHEDULING,
    SYNCHRONISATION,
    TIME,
    SYSTEM_V_IPC,
    SOCKETS,
    SYSTEM,
];

/// Allowed in addition on these machines (Go's names of architectures).
pub(super) const BY_ARCHITECTURE: &[(&[&str], &str)] = &[
    (&["ppc64le"], "sync_file_range2 swapcontext"),
    (
        &["arm", "arm64"],
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls",
    ),
    (&["amd64"], "arch_prctl"),
    (&["amd64", "386"], "modify_ldt"),
    (&["s390x"], "s390_pci_mmio_read s390_pci_mmio_write s390_runtime_instr"),
    (&["riscv64"], "riscv_flush_icache"),
];

/// Allowed in addition to containers whose bounding set has this capability.
///
/// `clone` and `clone3` are CAP_SYS_ADMIN's as well; without it they have rules of their own.
pub(super) const BY_CAPABILITY: &[(Capability, &str)] = &[
    (Capability::DacReadSearch, "open_by_handle_at"),
    (
        Capability::SysAdmin,
        "bpf clone clone3 fanotify_init fsconfig fsmount fsopen fspick lookup_dcookie lsm_get_self_attr \
         lsm_list_modules lsm_set_self_attr mount mount_setattr move_mount open_tree perf_event_open quotactl \
         quotactl_fd setdomainname sethostname setns syslog umount umount2 unshare",
    ),
    (Capability::SysBoot, "reboot"),
    (Capability::SysChroot, "chroot"),
    (Capability::SysModule, "delete_module finit_module init_module"),
    (Capability::SysPacct, "acct"),
    (
        Capability::SysPtrace,
        "kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev ptrace",
    ),
    (Capability::SysRawio, "ioperm iopl"),
    (Capability::SysTime, "clock_settime clock_settime64 settimeofday stime"),
    (Capability::SysTtyConfig, "vhangup"),
    (Capability::SysNice, "get_mempolicy mbind set_mempolicy set_mempolicy_home_node"),
    (Capability::Syslog, "syslog"),
    (Capability::Bpf, "bpf"),
    (Capability::Perfmon, "perf_event_open"),
];
