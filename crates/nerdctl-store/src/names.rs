//! The name store: which container has which name.
//!
//! One file per name, holding the container's id. All changes are made under the lock of the directory. With nerdctl,
//! a container loses its name when its task is deleted and takes it again at the next start; ours keep theirs until
//! they are removed.
//!
//! The place is that of nerdctl 1.x and ≥ 2.2; the releases 2.0.0 to 2.1.6 looked into `<data store>/<namespace>`
//! and never see these names. Source: nerdctl `pkg/namestore/namestore.go`.

use std::path::PathBuf;
use std::time::Duration;

use names::{ContainerId, ContainerName};

use crate::error::{Result, StoreError};
use crate::files::{read_optional, remove_if_present, write_atomic};
use crate::locks::lock_directory;

const MODE: u32 = 0o600;

/// The names of one namespace.
#[derive(Debug, Clone)]
pub struct NameStore {
    directory: PathBuf,
    deadline: Duration,
}

impl NameStore {
    pub(crate) fn new(directory: PathBuf, deadline: Duration) -> Self {
        Self { directory, deadline }
    }

    /// Gives the name to the container. Having it already is success; an empty file, left by a crash, is taken over.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] if another container has it; lock and I/O errors.
    pub fn acquire(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        match self.read(name)? {
            Some(owner) if owner == id.as_str() => Ok(()),
            Some(owner) => Err(StoreError::NameTaken { name: name.to_string(), owner }),
            None => self.write(name, id),
        }
    }

    /// Frees the name; says whether it was in use.
    ///
    /// # Errors
    /// [`StoreError::NameOfAnother`] if the container does not own it; lock and I/O errors.
    pub fn release(&self, name: &ContainerName, id: &ContainerId) -> Result<bool> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        self.check_owner(name, id)?;
        remove_if_present(&self.file(name))
    }

    /// Gives the container another name: the new one is written before the old one is freed.
    ///
    /// # Errors
    /// [`StoreError::NameTaken`] if `new` is in use, also by this very container; [`StoreError::NameNotInUse`] and
    /// [`StoreError::NameOfAnother`] for `old`; lock and I/O errors.
    pub fn rename(&self, old: &ContainerName, id: &ContainerId, new: &ContainerName) -> Result<()> {
        let _lock = lock_directory(&self.directory, self.deadline)?;
        if let Some(owner) = self.read(new)? {
            return Err(StoreError::NameTaken { name: new.to_string(), owner });
        }
        if !self.check_owner(old, id)? {
            return Err(StoreError::NameNotInUse { name: old.to_string() });
        }
        self.write(new, id)?;
        remove_if_present(&self.file(old))?;
        Ok(())
    }

    /// The id that has the name, if any. Takes no lock.
    ///
    /// # Errors
    /// I/O errors.
    pub fn owner(&self, name: &ContainerName) -> Result<Option<String>> {
        self.read(name)
    }

    /// Whether the name is in use; an error if by another container.
    fn check_owner(&self, name: &ContainerName, id: &ContainerId) -> Result<bool> {
        match self.read(name)? {
            None => Ok(false),
            Some(owner) if owner == id.as_str() => Ok(true),
            Some(owner) => {
                Err(StoreError::NameOfAnother { name: name.to_string(), id: id.to_string(), owner })
            }
        }
    }

    fn read(&self, name: &ContainerName) -> Result<Option<String>> {
        let owner = read_optional(&self.file(name))?
            .map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        Ok(owner.filter(|owner| !owner.is_empty()))
    }

    fn write(&self, name: &ContainerName, id: &ContainerId) -> Result<()> {
        write_atomic(&self.file(name), id.as_str().as_bytes(), MODE)
    }

    fn file(&self, name: &ContainerName) -> PathBuf {
        self.directory.join(name.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::locks::LOCK_DEADLINE;

    fn store(dir: &std::path::Path) -> NameStore {
        NameStore::new(dir.join("names/default"), LOCK_DEADLINE)
    }

    fn name(name: &str) -> ContainerName {
        name.parse().unwrap()
    }

    fn id(id: &str) -> ContainerId {
        id.parse().unwrap()
    }

    #[test]
    fn a_name_has_one_owner() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.acquire(&name("web"), &id("one")).unwrap();
        store.acquire(&name("web"), &id("one")).unwrap();
        let error = store.acquire(&name("web"), &id("two")).unwrap_err();
        assert_eq!(error.to_string(), r#"name "web" is already used by ID "one""#);
        assert_eq!(store.owner(&name("web")).unwrap().as_deref(), Some("one"));

        let file = dir.path().join("names/default/web");
        assert_eq!(fs::read_to_string(&file).unwrap(), "one", "without a newline");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn only_its_owner_frees_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        store.acquire(&name("web"), &id("one")).unwrap();
        let error = store.release(&name("web"), &id("two")).unwrap_err();
        assert_eq!(error.to_string(), r#"name "web" belongs to ID "one", not to "two""#);
        assert!(store.release(&name("web"), &id("one")).unwrap());
        assert!(!store.release(&name("web"), &id("one")).unwrap(), "twice is nothing");
        assert_eq!(store.owner(&name("web")).unwrap(), None);
    }

    #[test]
    fn renaming_frees_the_old_name() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        let web = id("one");
        store.acquire(&name("web"), &web).unwrap();
        store.acquire(&name("api"), &id("two")).unwrap();
        assert!(matches!(
            store.rename(&name("web"), &web, &name("api")),
            Err(StoreError::NameTaken { .. })
        ));
        assert!(matches!(
            store.rename(&name("api"), &web, &name("x1")),
            Err(StoreError::NameOfAnother { .. })
        ));
        assert!(matches!(
            store.rename(&name("zz"), &web, &name("x1")),
            Err(StoreError::NameNotInUse { .. })
        ));
        store.rename(&name("web"), &web, &name("front")).unwrap();
        assert_eq!(store.owner(&name("web")).unwrap(), None);
        assert_eq!(store.owner(&name("front")).unwrap().as_deref(), Some("one"));
    }

    #[test]
    fn an_empty_file_of_a_crash_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(dir.path());
        fs::create_dir_all(dir.path().join("names/default")).unwrap();
        fs::write(dir.path().join("names/default/web"), "").unwrap();
        store.acquire(&name("web"), &id("one")).unwrap();
        assert_eq!(store.owner(&name("web")).unwrap().as_deref(), Some("one"));
    }
}
