//! Whose output it is: what tags, attributes and the journal's fields are made of.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::options::{Driver, OptionError};
use super::tag::{Field, Tag};

/// In the state directory.
pub const SUBJECT_FILE: &str = "log-subject.json";

/// Characters of a short id.
const SHORT: usize = 12;

/// What a log tells about its container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subject {
    /// Its id: the monitor's own knowledge, not in the file.
    #[serde(skip)]
    pub id: String,
    /// Its name, as it was when the run began.
    pub name: String,
    /// Its image as typed.
    pub image: String,
    /// The image's id, `sha256:…`.
    pub image_id: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Labels and variables that the options `labels`, `labels-regex`, `env` and `env-regex` chose.
    pub attributes: BTreeMap<String, String>,
}

impl Subject {
    /// What the state directory tells of `container`; without a file, the id alone.
    pub(super) fn load(state_dir: &Path, container: &str) -> Self {
        let read = std::fs::read(state_dir.join(SUBJECT_FILE));
        let known = read.ok().and_then(|text| serde_json::from_slice::<Self>(&text).ok());
        Self { id: container.to_owned(), ..known.unwrap_or_default() }
    }

    /// The tag of `template`; an empty one means the short id, as does one that cannot be read.
    pub(super) fn tag(&self, template: &str) -> String {
        match Tag::parse(template) {
            Ok(tag) if !template.is_empty() => tag.render(|field| self.field(field)),
            _ => self.field(Field::Id),
        }
    }

    fn field(&self, field: Field) -> String {
        let short = |text: &str| text.get(..SHORT).unwrap_or(text).to_owned();
        match field {
            Field::Id => short(&self.id),
            Field::FullId => self.id.clone(),
            Field::Name => self.name.clone(),
            Field::Command => self.command.join(" "),
            Field::ImageId => {
                short(self.image_id.rsplit_once(':').map_or(&*self.image_id, |(_, hex)| hex))
            }
            Field::ImageFullId => self.image_id.clone(),
            Field::ImageName => self.image.clone(),
            Field::Hostname => host_name(),
            Field::DaemonName => "docker".to_owned(),
        }
    }

    /// Attributes of a json-file's entries: the tag is one of them only if it was asked for.
    pub(super) fn attributes(&self, template: &str) -> BTreeMap<String, String> {
        let mut attributes = self.attributes.clone();
        if !template.is_empty() {
            attributes.insert("tag".to_owned(), self.tag(template));
        }
        attributes
    }

    /// Fields of every entry in the journal (moby `daemon/logger/journald/journald.go`).
    pub(super) fn journal_fields(&self, template: &str) -> BTreeMap<String, String> {
        let tag = self.tag(template);
        let mut fields: BTreeMap<String, String> = [
            ("CONTAINER_ID", self.field(Field::Id)),
            ("CONTAINER_ID_FULL", self.id.clone()),
            ("CONTAINER_NAME", self.name.clone()),
            ("CONTAINER_TAG", tag.clone()),
            ("IMAGE_NAME", self.image.clone()),
            ("SYSLOG_IDENTIFIER", tag),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into();
        let own = self.attributes.iter().map(|(name, value)| (journal_name(name), value.clone()));
        fields.extend(own.filter(|(name, _)| !name.is_empty()));
        fields
    }
}

/// A name as the journal takes it: capital letters, digits and underscores, none of them at the start.
fn journal_name(name: &str) -> String {
    let mapped = name.chars().map(|character| match character {
        'a'..='z' => character.to_ascii_uppercase(),
        'A'..='Z' | '0'..='9' => character,
        _ => '_',
    });
    mapped.skip_while(|character| *character == '_').collect()
}

pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Whether a monitor needs to know more of the container than its id.
#[must_use]
pub fn needs_subject(driver: Driver, options: &BTreeMap<String, String>) -> bool {
    let asks = |name: &str| options.get(name).is_some_and(|value| !value.is_empty());
    match driver {
        Driver::None => false,
        Driver::Journald | Driver::Syslog => true,
        Driver::JsonFile | Driver::Local => {
            ["tag", "labels", "labels-regex", "env", "env-regex"].into_iter().any(asks)
        }
    }
}

/// The labels and variables that `options` choose (moby `daemon/logger/loginfo.go`, `ExtraAttributes`).
///
/// # Errors
/// [`OptionError::Regex`], which [`super::check`] finds first.
pub fn attributes(
    options: &BTreeMap<String, String>,
    labels: &BTreeMap<String, String>,
    env: &[String],
) -> Result<BTreeMap<String, String>, OptionError> {
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let env = env.iter().filter_map(|variable| variable.split_once('='));
    let mut chosen = BTreeMap::new();
    for (all, list, pattern) in [
        (labels.collect::<BTreeMap<_, _>>(), "labels", "labels-regex"),
        (env.collect(), "env", "env-regex"),
    ] {
        let named = options.get(list).map_or("", String::as_str);
        let pattern = options.get(pattern).filter(|pattern| !pattern.is_empty());
        let pattern = pattern.map(|pattern| regex_lite::Regex::new(pattern)).transpose();
        let pattern = pattern.map_err(|error| OptionError::Regex(error.to_string()))?;
        let is_chosen = |name: &str| {
            named.split(',').any(|one| one == name)
                || pattern.as_ref().is_some_and(|pattern| pattern.is_match(name))
        };
        let found = all.into_iter().filter(|(name, _)| is_chosen(name));
        chosen.extend(found.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn labels_and_variables_are_chosen_by_name_and_pattern() {
        let labels = texts(&[("stage", "prod"), ("com.x.a", "1"), ("com.x.b", "2"), ("rest", "3")]);
        let env = ["A=1".to_owned(), "B=2=3".to_owned(), "PATH=/bin".to_owned(), "bare".to_owned()];
        let options = texts(&[
            ("labels", "stage,absent"),
            ("labels-regex", r"^com\.x\."),
            ("env", "B"),
            ("env-regex", "^A$"),
        ]);
        let expected = texts(&[
            ("A", "1"),
            ("B", "2=3"),
            ("com.x.a", "1"),
            ("com.x.b", "2"),
            ("stage", "prod"),
        ]);
        assert_eq!(attributes(&options, &labels, &env), Ok(expected));
        assert_eq!(attributes(&texts(&[]), &labels, &env), Ok(texts(&[])));
    }

    #[test]
    fn tags_and_fields() {
        let subject = Subject {
            id: "0123456789abcdef".into(),
            name: "web".into(),
            image: "nginx:1".into(),
            image_id: "sha256:fedcba9876543210".into(),
            command: vec!["sh".into(), "-c".into()],
            attributes: texts(&[("my.label", "x"), ("__y", "z"), ("__", "no name is left")]),
        };
        assert_eq!(subject.tag(""), "0123456789ab");
        assert_eq!(subject.tag("{{.Name}} {{.ImageID}} {{.Command}}"), "web fedcba987654 sh -c");
        let fields = subject.journal_fields("t");
        let expected = texts(&[
            ("CONTAINER_ID", "0123456789ab"),
            ("CONTAINER_ID_FULL", "0123456789abcdef"),
            ("CONTAINER_NAME", "web"),
            ("CONTAINER_TAG", "t"),
            ("IMAGE_NAME", "nginx:1"),
            ("SYSLOG_IDENTIFIER", "t"),
            ("MY_LABEL", "x"),
            ("Y", "z"),
        ]);
        assert_eq!(fields, expected);
        assert!(!subject.attributes("").contains_key("tag"));
        assert_eq!(subject.attributes("t")["tag"], "t");
    }
}
