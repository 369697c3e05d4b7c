//! The keys of nerdctl's, containerd's and Kubernetes' labels.

/// What all of nerdctl's own keys begin with.
pub const NERDCTL_PREFIX: &str = "nerdctl/";

/// containerd namespace. Without it hooks fail and `nerdctl logs` refuses.
pub const NAMESPACE: &str = "nerdctl/namespace";
/// The container's name.
pub const NAME: &str = "nerdctl/name";
/// Host name in the container.
pub const HOSTNAME: &str = "nerdctl/hostname";
/// Domain name; stored as annotation only if empty.
pub const DOMAINNAME: &str = "nerdctl/domainname";
/// JSON array of `host:ip`; must always be present.
pub const EXTRA_HOSTS: &str = "nerdctl/extraHosts";
/// Absolute path of the state directory.
pub const STATE_DIR: &str = "nerdctl/state-dir";
/// JSON array of networks as the user typed them; must always be present.
pub const NETWORKS: &str = "nerdctl/networks";
/// JSON array of port mappings; written by releases before 2.1.3 only.
pub const PORTS: &str = "nerdctl/ports";
/// Static IPv4 address.
pub const IP: &str = "nerdctl/ip";
/// Static IPv6 address.
pub const IP6: &str = "nerdctl/ip6";
/// Static MAC address.
pub const MAC_ADDRESS: &str = "nerdctl/mac-address";
/// `binary://` URI of the logger.
pub const LOG_URI: &str = "nerdctl/log-uri";
/// JSON of the log driver, its options and containerd's address.
pub const LOG_CONFIG: &str = "nerdctl/log-config";
/// Platform of the image, like `linux/amd64`.
pub const PLATFORM: &str = "nerdctl/platform";
/// JSON array of mount points.
pub const MOUNTS: &str = "nerdctl/mounts";
/// Beginning of `nerdctl/mounts.0`, `nerdctl/mounts.1` …: one mount point each.
pub const MOUNTS_INDEXED_PREFIX: &str = "nerdctl/mounts.";
/// JSON array of the names of anonymous volumes.
pub const ANONYMOUS_VOLUMES: &str = "nerdctl/anonymous-volumes";
/// JSON array of snapshot keys of image mounts.
pub const IMAGE_MOUNT_SNAPSHOTS: &str = "nerdctl/image-mount-snapshots";
/// JSON object with a key like `80/tcp` for each exposed port.
pub const EXPOSED_PORTS: &str = "nerdctl/exposed-ports";
/// Path to which nerdctl's hook writes the pid. Never set by us: it lets a hook write anywhere.
pub const PID_FILE: &str = "nerdctl/pid-file";
/// Id of the container whose pid namespace is shared.
pub const PID_CONTAINER: &str = "nerdctl/pid-container";
/// JSON of the IPC mode.
pub const IPC: &str = "nerdctl/ipc";
/// Seconds until SIGKILL at stop.
pub const STOP_TIMEOUT: &str = "nerdctl/stop-timeout";
/// `true` or `false`.
pub const AUTO_REMOVE: &str = "nerdctl/auto-remove";
/// JSON of a few `HostConfig` fields.
pub const HOST_CONFIG: &str = "nerdctl/host-config";
/// JSON of the DNS settings.
pub const DNS: &str = "nerdctl/dns";
/// User as given or from the image.
pub const USER: &str = "nerdctl/user";
/// `true`, or absent.
pub const PRIVILEGED: &str = "nerdctl/privileged";
/// JSON of the health check.
pub const HEALTHCHECK: &str = "nerdctl/healthcheck";
/// JSON of the health state.
pub const HEALTHSTATE: &str = "nerdctl/healthstate";
/// The last error of start, stop, kill or rm.
pub const ERROR: &str = "nerdctl/error";
/// Annotation only: path of a network namespace to use instead of that of the pid.
pub const NETWORK_NAMESPACE: &str = "nerdctl/network-namespace";
/// In conflists, not on containers: marks the default network.
pub const DEFAULT_NETWORK: &str = "nerdctl/default-network";

/// STOPSIGNAL of the image, or ours.
pub const STOP_SIGNAL: &str = "io.containerd.image.config.stop-signal";
/// `always`, `unless-stopped`, `on-failure`, `on-failure:<n>`.
pub const RESTART_POLICY: &str = "containerd.io/restart.policy";
/// What containerd's restart plugin is to maintain: `running` or `stopped`. Absent: it does not look.
pub const RESTART_STATUS: &str = "containerd.io/restart.status";
/// stdio of a task that containerd's restart plugin starts.
pub const RESTART_LOG_URI: &str = "containerd.io/restart.loguri";
/// How often containerd's restart plugin has restarted the container.
pub const RESTART_COUNT: &str = "containerd.io/restart.count";
/// `true` after a stop by a person.
pub const RESTART_EXPLICITLY_STOPPED: &str = "containerd.io/restart.explicitly-stopped";

/// `container` or `sandbox`, on everything that Kubernetes' CRI made.
pub const CRI_KIND: &str = "io.cri-containerd.kind";
/// Namespace of the pod.
pub const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
/// Name of the pod.
pub const POD_NAME: &str = "io.kubernetes.pod.name";
/// Name of the container in the pod; absent on sandboxes.
pub const POD_CONTAINER_NAME: &str = "io.kubernetes.container.name";
