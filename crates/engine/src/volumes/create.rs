//! Make a volume.

use std::collections::{BTreeMap, BTreeSet};

use names::VolumeName;
use nerdctl_store::volumes::anonymous_labels;

use super::Volume;
use crate::containers::mounts::LOCAL;
use crate::waiting::try_blocking;
use crate::{Engine, Error, Result, random};

/// Options that dockerd's `local` driver knows (moby `daemon/volume/local/local_unix.go`).
const OPTIONS: [&str; 4] = ["type", "o", "device", "size"];

/// A volume to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VolumeSpec {
    /// As typed; empty for an anonymous one.
    pub name: String,
    /// As typed; empty for the usual one.
    pub driver: String,
    /// Options of the driver.
    pub options: BTreeMap<String, String>,
    /// Labels; already checked against reserved keys.
    pub labels: Option<BTreeMap<String, String>>,
}

impl Engine {
    /// Make a volume. One that exists is given back as it is.
    ///
    /// # Errors
    /// [`Error::InvalidParameter`] for a name or an option that is none; [`Error::NoSuchVolumeDriver`];
    /// [`Error::Unsupported`] for options of the driver.
    pub async fn create_volume(&self, spec: VolumeSpec) -> Result<Volume> {
        let (name, labels) = if spec.name.is_empty() {
            let mut labels = spec.labels.unwrap_or_default();
            labels.extend(anonymous_labels());
            (VolumeName::anonymous(random::bytes()?), Some(labels))
        } else {
            (volume_name(&spec.name)?, spec.labels)
        };
        check_driver(name.as_str(), &spec.driver)?;
        check_options(name.as_str(), &spec.options.keys().map(String::as_str).collect())?;
        let (volume, made) = self.make_volume(name, labels).await?;
        if made {
            self.tell_of_volume(&volume.name, "create");
        }
        Ok(volume)
    }

    /// A volume of this name, made if there was none; says whether it was.
    pub(crate) async fn make_volume(
        &self,
        name: VolumeName,
        labels: Option<BTreeMap<String, String>>,
    ) -> Result<(Volume, bool)> {
        let store = self.store().volumes(&self.settings().namespace);
        let doing = format!("create volume {name}");
        let create = move || store.create(&name, labels.as_ref());
        let (volume, made) = try_blocking(doing, create).await?;
        Ok((volume.into(), made))
    }
}

/// A name that the `local` driver takes, or its words.
///
/// # Errors
/// [`Error::InvalidParameter`].
pub fn volume_name(typed: &str) -> Result<VolumeName> {
    typed.parse().map_err(|error| Error::InvalidParameter(format!("create {typed}: {error}")))
}

/// There is one driver.
///
/// # Errors
/// [`Error::NoSuchVolumeDriver`].
pub(crate) fn check_driver(volume: &str, driver: &str) -> Result<()> {
    if ["", LOCAL].contains(&driver) {
        return Ok(());
    }
    Err(Error::NoSuchVolumeDriver { volume: volume.to_owned(), driver: driver.to_owned() })
}

/// dockerd mounts file systems of other kinds on the volume's directory; here a volume is a directory, and nothing else.
fn check_options(volume: &str, options: &BTreeSet<&str>) -> Result<()> {
    if let Some(unknown) = options.iter().find(|option| !OPTIONS.contains(option)) {
        let text = format!("create {volume}: invalid option: {unknown:?}");
        return Err(Error::InvalidParameter(text));
    }
    match options.first() {
        None => Ok(()),
        Some(option) => Err(Error::Unsupported {
            what: format!("option {option:?} of volume driver \"local\""),
            hint: ": mount it on the host and bind the directory".to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_dockerds() {
        let text = |result: Result<()>| result.unwrap_err().message();
        assert_eq!(
            text(check_driver("data", "nope")),
            "create data: error looking up volume plugin nope: plugin \"nope\" not found"
        );
        assert!(check_driver("data", "").is_ok() && check_driver("data", "local").is_ok());
        assert_eq!(
            text(check_options("data", &BTreeSet::from(["foo", "type"]))),
            "create data: invalid option: \"foo\""
        );
        assert!(text(check_options("data", &BTreeSet::from(["type"]))).contains("not supported"));
        assert_eq!(
            volume_name("x").unwrap_err().message(),
            "create x: volume name is too short, names should be at least two alphanumeric characters"
        );
    }
}
