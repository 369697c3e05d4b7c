//! Where the kernel shows control groups, and which of them are a container's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Group, files};

/// The mounted hierarchies of a host. They stay as they are while it runs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// By controller (`memory`), or by name (`name=systemd`).
    controllers: BTreeMap<String, Mounted>,
    /// The unified one.
    unified: Option<Mounted>,
}

/// One hierarchy, or a part of one.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Mounted {
    /// Which group the directory shows: `/`, unless we are in a container ourselves.
    root: String,
    directory: PathBuf,
}

impl Hierarchies {
    /// The ones of this host.
    #[must_use]
    pub fn of_this_host() -> Self {
        Self::parse(&files::text(Path::new("/proc/self/mountinfo")).unwrap_or_default())
    }

    /// Read a `/proc/<pid>/mountinfo` (proc(5)).
    #[must_use]
    pub fn parse(mountinfo: &str) -> Self {
        let mut found = Self::default();
        for line in mountinfo.lines() {
            let Some((left, right)) = line.split_once(" - ") else { continue };
            let (mut left, mut right) = (left.split(' ').skip(3), right.split(' '));
            let (Some(root), Some(directory)) = (left.next(), left.next()) else { continue };
            let (kind, options) = (right.next(), right.nth(1).unwrap_or_default());
            let mounted = Mounted { root: unescaped(root), directory: unescaped(directory).into() };
            match kind {
                Some("cgroup2") => match &mut found.unified {
                    Some(known) => known.or_better(mounted),
                    none => *none = Some(mounted),
                },
                Some("cgroup") => found.add(options, &mounted),
                _ => {}
            }
        }
        found
    }

    fn add(&mut self, options: &str, mounted: &Mounted) {
        for option in options.split(',').filter(|option| !NO_CONTROLLERS.contains(option)) {
            self.controllers
                .entry(option.to_owned())
                .and_modify(|known| known.or_better(mounted.clone()))
                .or_insert_with(|| mounted.clone());
        }
    }

    /// The groups of the container `id`, one of whose processes is `pid`; `None` if that process has ended, or is in no
    /// group that carries the id.
    #[must_use]
    pub fn group_of(&self, pid: u32, id: &str) -> Option<Group> {
        self.group(&files::text(Path::new(&format!("/proc/{pid}/cgroup"))).ok()?, id)
    }

    /// The same from the text of a `/proc/<pid>/cgroup` (cgroups(7)).
    #[must_use]
    pub fn group(&self, memberships: &str, id: &str) -> Option<Group> {
        let mut directories = BTreeMap::new();
        let mut unified = None;
        for line in memberships.lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else { continue };
            let Some(path) = container_part(path, id) else { continue };
            if controllers.is_empty() {
                unified = self.unified.as_ref().and_then(|mounted| mounted.below(path));
                continue;
            }
            for controller in controllers.split(',') {
                let mounted = self.controllers.get(controller);
                if let Some(directory) = mounted.and_then(|mounted| mounted.below(path)) {
                    directories.insert(controller.to_owned(), directory);
                }
            }
        }
        // A hierarchy without controllers counts nothing.
        let counts = directories.keys().any(|controller| !controller.starts_with("name="));
        match unified {
            Some(directory) if !counts => Some(Group::V2(directory)),
            _ if directories.is_empty() => None,
            _ => Some(Group::V1(directories)),
        }
    }
}

impl Mounted {
    /// Of several mounts of one hierarchy: a later one in the same place hides the former; in another place the one that
    /// shows all groups is better.
    fn or_better(&mut self, later: Self) {
        if self.directory == later.directory || (self.root != "/" && later.root == "/") {
            *self = later;
        }
    }

    /// The directory of a group, if this mount shows it.
    fn below(&self, path: &str) -> Option<PathBuf> {
        let rest = match self.root.as_str() {
            "/" => path,
            root => path.strip_prefix(root).filter(|rest| rest.starts_with('/'))?,
        };
        Some(self.directory.join(rest.trim_start_matches('/')))
    }
}

/// Mount options of a v1 hierarchy that name none.
const NO_CONTROLLERS: [&str; 8] =
    ["rw", "ro", "xattr", "clone_children", "cpuset_v2_mode", "noprefix", "none", "release_agent"];

/// A path up to the part that is the container's: its id, or a systemd scope that is named after it
/// (`nerdctl-<id>.scope`). `None` also for a path that leads out of what we see.
fn container_part<'a>(path: &'a str, id: &str) -> Option<&'a str> {
    let is_its = |part: &str| {
        let scope = part.strip_suffix(".scope").and_then(|scope| scope.strip_suffix(id));
        part == id || scope.is_some_and(|before| before.ends_with('-'))
    };
    if id.is_empty() || path.split('/').any(|part| part == "..") {
        return None;
    }
    let mut end = 0;
    let mut found = None;
    for part in path.split('/') {
        end += part.len();
        if is_its(part) {
            found = Some(end);
        }
        end += 1;
    }
    found.map(|end| &path[..end])
}

/// Blanks and their like stand as three octal digits in mountinfo.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('\\');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let code = part.get(..3).and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match code {
            Some(code) => {
                plain.push(char::from(code));
                plain.push_str(&part[3..]);
            }
            None => {
                plain.push('\\');
                plain.push_str(part);
            }
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const V1: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/devices rw,relatime - cgroup cgroup rw,devices
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
";
    const V2: &str = "29 22 0:25 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn directories(group: Option<Group>) -> Vec<String> {
        match group {
            None => Vec::new(),
            Some(Group::V2(directory)) => vec![directory.display().to_string()],
            Some(Group::V1(directories)) => directories
                .iter()
                .map(|(controller, directory)| format!("{controller} {}", directory.display()))
                .collect(),
        }
    }

    #[test]
    fn one_hierarchy_for_each_controller() {
        let memberships = format!(
            "9:name=systemd:/default/{ID}\n4:memory:/default/{ID}\n1:cpu,cpuacct:/default/{ID}\n"
        );
        assert_eq!(
            directories(Hierarchies::parse(V1).group(&memberships, ID)),
            [
                format!("cpu /sys/fs/cgroup/cpu,cpuacct/default/{ID}"),
                format!("cpuacct /sys/fs/cgroup/cpu,cpuacct/default/{ID}"),
                format!("memory /sys/fs/cgroup/memory/default/{ID}"),
                format!("name=systemd /sys/fs/cgroup/systemd/default/{ID}"),
            ]
        );
    }

    #[test]
    fn one_hierarchy_for_all() {
        let host = Hierarchies::parse(V2);
        for (path, wanted) in [
            (format!("/default/{ID}"), format!("/default/{ID}")),
            (
                format!("/system.slice/nerdctl-{ID}.scope"),
                format!("/system.slice/nerdctl-{ID}.scope"),
            ),
            (
                format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope/init"),
                format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope"),
            ),
            (format!("/default/{ID}/docker/inner"), format!("/default/{ID}")),
        ] {
            let found = directories(host.group(&format!("0::{path}\n"), ID));
            assert_eq!(found, [format!("/sys/fs/cgroup{wanted}")], "{path}");
        }
    }

    #[test]
    fn in_the_hybrid_layout_the_controllers_count() {
        let hybrid = format!("{V1}41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n");
        let memberships = format!("4:memory:/default/{ID}\n0::/default/{ID}\n");
        assert_eq!(
            directories(Hierarchies::parse(&hybrid).group(&memberships, ID)),
            [format!("memory /sys/fs/cgroup/memory/default/{ID}")]
        );
        let only_unified = format!("4:memory:/\n0::/default/{ID}\n");
        assert_eq!(
            directories(Hierarchies::parse(&hybrid).group(&only_unified, ID)),
            [format!("/sys/fs/cgroup/unified/default/{ID}")]
        );
    }

    #[test]
    fn the_groups_of_others_are_not_the_containers() {
        let host = Hierarchies::parse(V2);
        for path in ["/", "/user.slice/user-1000.slice/session-1.scope", "/default/0123", "/../x"] {
            assert_eq!(host.group(&format!("0::{path}\n"), ID), None, "{path}");
        }
        // Other clients of containerd choose short ids.
        assert_eq!(directories(host.group("0::/default/a\n", "a")), ["/sys/fs/cgroup/default/a"]);
        assert_eq!(host.group("0::/user.slice/x-ba.scope\n", "a"), None);
        assert_eq!(host.group(&format!("0::/../{ID}\n"), ID), None, "outside of our view");
    }

    #[test]
    fn a_part_of_a_hierarchy_is_mounted_in_containers() {
        let inside = Hierarchies::parse(
            "9 8 0:25 /docker/outer /sys/fs/c\\040group rw - cgroup2 cgroup rw\n",
        );
        let group = |path: &str| directories(inside.group(&format!("0::{path}"), "web"));
        assert_eq!(group("/docker/outer/default/web"), ["/sys/fs/c group/default/web"]);
        assert!(group("/docker/outermost/web").is_empty());
    }

    #[test]
    fn the_mount_that_is_seen_counts() {
        let hidden = "35 31 0:32 /.. /cg/memory rw - cgroup cgroup rw,memory\n";
        let seen = "90 35 0:32 / /cg/memory rw - cgroup cgroup rw,memory\n";
        let elsewhere = "91 31 0:32 /part /other/memory rw - cgroup cgroup rw,memory\n";
        for order in [[hidden, seen, elsewhere], [elsewhere, hidden, seen]] {
            let found = Hierarchies::parse(&order.concat()).group("4:memory:/default/web\n", "web");
            assert_eq!(directories(found), ["memory /cg/memory/default/web"]);
        }
    }
}
