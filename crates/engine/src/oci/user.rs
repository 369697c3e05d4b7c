//! Who the process is: `user:group` looked up in the image's own files.
//!
//! Source: moby/sys `user/user.go`; moby `daemon/oci_linux.go` (`getUser`).

use oci_spec::runtime::{User, UserBuilder};

use super::Built;
use crate::{Error, Result};

/// The largest id that Docker takes.
const MAX_ID: u32 = 0x7fff_ffff;

/// The two files of an image that names of users and groups are looked up in; empty where the image has none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageFiles {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

impl ImageFiles {
    /// Whether looking up `user` and further groups needs them: not if all are numbers.
    pub(crate) fn are_needed_for(user: &str, groups: &[String]) -> bool {
        let is_number = |text: &str| text.parse::<u32>().is_ok();
        let numeric =
            user.split_once(':').is_some_and(|(user, group)| is_number(user) && is_number(group));
        !numeric || groups.iter().any(|group| !is_number(group))
    }
}

/// Numbers of a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ids {
    uid: u32,
    gid: u32,
    /// Further groups.
    groups: Vec<u32>,
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
}

struct GroupEntry<'a> {
    name: &'a str,
    gid: u32,
    members: &'a str,
}

impl Ids {
    /// Look up `asked`: `user`, `user:group`, either of them a number; empty is root.
    ///
    /// A number is never taken for a name, and need not be in the files. The groups that the files list the user in
    /// are its further groups, unless a group was asked for.
    pub(crate) fn find(asked: &str, files: &ImageFiles) -> Result<Self> {
        let (user, group) = asked.split_once(':').unwrap_or((asked, ""));
        let uid = number(user)?;
        let entry = passwd(&files.passwd).find(|entry| match uid {
            Some(uid) => entry.uid == uid,
            None if user.is_empty() => entry.uid == 0,
            None => entry.name == user,
        });
        let mut ids = match (&entry, uid) {
            (Some(entry), _) => Self { uid: entry.uid, gid: entry.gid, groups: Vec::new() },
            (None, Some(uid)) => Self { uid, gid: 0, groups: Vec::new() },
            (None, None) if user.is_empty() => Self { uid: 0, gid: 0, groups: Vec::new() },
            (None, None) => {
                let reason = "no matching entries in passwd file".to_owned();
                return Err(Error::NoSuchUser { user: user.to_owned(), reason });
            }
        };
        if !group.is_empty() {
            ids.gid = find_group(group, files)?;
        } else if let Some(entry) = entry {
            let listed = |group: &GroupEntry<'_>| {
                group.members.split(',').any(|member| member == entry.name)
            };
            ids.groups = groups(&files.group).filter(listed).map(|group| group.gid).collect();
        }
        Ok(ids)
    }

    /// Add the groups that were asked for beyond the user's (moby `daemon/oci_linux.go`, `getUser`).
    pub(super) fn join(&mut self, asked: &[String], files: &ImageFiles) -> Result<()> {
        for group in asked {
            let found = groups(&files.group).find(|entry| entry.name == *group);
            let gid = match found {
                Some(entry) => entry.gid,
                None => number(group)?.ok_or_else(|| {
                    Error::InvalidParameter(format!(
                        "unable to find group {group}: no matching entries in group file"
                    ))
                })?,
            };
            if !self.groups.contains(&gid) {
                self.groups.push(gid);
            }
        }
        Ok(())
    }

    /// For the spec. The own group comes first among the further ones: a process that could drop it from the list
    /// would get past files that deny that group (CVE-2022-36109).
    pub(crate) fn to_user(&self) -> Built<User> {
        let mut all = vec![self.gid];
        all.extend(self.groups.iter().copied().filter(|group| *group != self.gid));
        UserBuilder::default().uid(self.uid).gid(self.gid).additional_gids(all).build()
    }
}

fn find_group(asked: &str, files: &ImageFiles) -> Result<u32> {
    if let Some(gid) = number(asked)? {
        return Ok(gid);
    }
    let found = groups(&files.group).find(|group| group.name == asked);
    found.map(|group| group.gid).ok_or_else(|| {
        Error::InvalidParameter(format!(
            "unable to find group {asked}: no matching entries in group file"
        ))
    })
}

/// The number, if it is one.
fn number(text: &str) -> Result<Option<u32>> {
    let Ok(number) = text.parse::<i64>() else { return Ok(None) };
    match u32::try_from(number) {
        Ok(id) if id <= MAX_ID => Ok(Some(id)),
        _ => Err(Error::InvalidParameter(format!("uids and gids must be in range 0-{MAX_ID}"))),
    }
}

/// Entries with readable numbers; others must not turn into root.
fn passwd(text: &str) -> impl Iterator<Item = PasswdEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        Some(PasswdEntry {
            name,
            uid: fields.next()?.parse().ok()?,
            gid: fields.next()?.parse().ok()?,
        })
    })
}

fn groups(text: &str) -> impl Iterator<Item = GroupEntry<'_>> {
    lines(text).filter_map(|line| {
        let mut fields = line.split(':');
        let (name, _password) = (fields.next()?, fields.next()?);
        let gid = fields.next()?.parse().ok()?;
        Some(GroupEntry { name, gid, members: fields.next().unwrap_or_default() })
    })
}

fn lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> ImageFiles {
        ImageFiles {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# comment\nbroken:x:zero:0::/:\nweb:x:33:33:www:/var/www:/bin/false\n"
                .into(),
            group: "root:x:0:root\nwheel:x:10:root,web\nweb:x:33:\nlogs:x:44:web,other\n".into(),
        }
    }

    fn find(asked: &str) -> Result<(u32, u32, Vec<u32>)> {
        Ids::find(asked, &files()).map(|ids| (ids.uid, ids.gid, ids.groups))
    }

    #[test]
    fn every_way_to_say_it() {
        assert_eq!(find("").unwrap(), (0, 0, vec![0, 10]));
        assert_eq!(find("web").unwrap(), (33, 33, vec![10, 44]));
        assert_eq!(find("33").unwrap(), (33, 33, vec![10, 44]));
        assert_eq!(find("web:wheel").unwrap(), (33, 10, vec![]));
        assert_eq!(find("web:7").unwrap(), (33, 7, vec![]));
        assert_eq!(find("1000").unwrap(), (1000, 0, vec![]));
        assert_eq!(find("1000:logs").unwrap(), (1000, 44, vec![]));
        assert_eq!(find(":logs").unwrap(), (0, 44, vec![]));
    }

    #[test]
    fn an_image_without_files() {
        let none = ImageFiles::default();
        assert_eq!(Ids::find("", &none).unwrap(), Ids { uid: 0, gid: 0, groups: vec![] });
        assert_eq!(Ids::find("5:6", &none).unwrap(), Ids { uid: 5, gid: 6, groups: vec![] });
        assert!(Ids::find("web", &none).is_err());
    }

    #[test]
    fn two_numbers_need_no_files() {
        assert!(!ImageFiles::are_needed_for("0:0", &["7".into()]));
        for user in ["", "0", "web", "0:web", "web:0", ":", "5:"] {
            assert!(ImageFiles::are_needed_for(user, &[]), "{user:?}");
        }
        assert!(ImageFiles::are_needed_for("0:0", &["wheel".into()]));
    }

    #[test]
    fn further_groups_by_name_and_number() {
        let joined = |asked: &[&str]| {
            let asked: Vec<_> = asked.iter().map(|group| (*group).to_owned()).collect();
            let mut ids = Ids::find("web", &files()).unwrap();
            ids.join(&asked, &files()).map(|()| ids.groups)
        };
        assert_eq!(joined(&["44", "root", "777"]).unwrap(), [10, 44, 0, 777]);
        assert_eq!(
            joined(&["nobody"]).unwrap_err().to_string(),
            "unable to find group nobody: no matching entries in group file"
        );
        assert_eq!(
            joined(&["-1"]).unwrap_err().to_string(),
            "uids and gids must be in range 0-2147483647"
        );
    }

    #[test]
    fn what_cannot_be_found() {
        let text = |asked| find(asked).unwrap_err().to_string();
        assert_eq!(
            text("nobody"),
            "unable to find user nobody: no matching entries in passwd file"
        );
        assert_eq!(
            text("broken"),
            "unable to find user broken: no matching entries in passwd file"
        );
        assert_eq!(
            text("web:nobody"),
            "unable to find group nobody: no matching entries in group file"
        );
        assert_eq!(text("-1"), "uids and gids must be in range 0-2147483647");
        assert_eq!(text("0:2147483648"), "uids and gids must be in range 0-2147483647");
    }

    #[test]
    fn the_own_group_is_named_once() {
        let user = Ids { uid: 0, gid: 0, groups: vec![0, 10] }.to_user().unwrap();
        assert_eq!(user.additional_gids().as_deref(), Some(&[0, 10][..]));
    }
}
