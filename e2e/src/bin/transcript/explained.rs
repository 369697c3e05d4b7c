//! Why some commands print something else than with dockerd 29.

/// Commands, and the reason. Each must still be true.
pub(crate) const EXPLAINED: &[(&str, &str)] = &[
    ("docker version", "it is another program of another version, which names its own components"),
    (
        "docker info",
        "versions, folders and ids are others, the rig starts it with --debug, drivers are those that are here, mirrors are \
         in hosts.toml, containers always outlive the daemon, cgroup v1 is not deprecated, and there is no docker-proxy",
    ),
    (
        "docker run --rm -h box --add-host other:10.1.1.1 --dns 10.2.2.2 busybox sh -c 'hostname; tail -n 2 /etc/hosts; cat /etc/resolv.conf'",
        "both files are as nerdctl writes them, whose commands go on with them; they say the same",
    ),
    (
        "docker search nginx > /dev/null; echo \"exit code $?\"",
        "the words for a hub that cannot be reached are those of another HTTP client",
    ),
    ("docker swarm init; echo \"exit code $?\"", "there is no Swarm"),
    (
        "docker login -u nerd -p wrong localhost:5000; echo \"exit code $?\"",
        "a refusal of the registry is told as one, with status 401 where dockerd has 500",
    ),
    (
        "docker version --format '{{range .Server.Components}}{{.Name}} {{end}}'",
        "it names its own components",
    ),
];

/// Further ones with Debian's containerd 1.6, which comes with an older runc.
pub(crate) const EXPLAINED_ON_1_6: &[(&str, &str)] = &[
    ("docker run --rm busybox /etc; echo \"exit code $?\"", OLD_RUNC),
    ("docker run --rm busybox nobody-has-this; echo \"exit code $?\"", OLD_RUNC),
];

const OLD_RUNC: &str = "the words are those of an older runc";
