//! The option `tag`: a text with fields of the container in it, `{{.Name}}/{{.ID}}`.
//!
//! dockerd takes a whole template language (moby `daemon/logger/loggerutils/log_tag.go`, Go's `text/template`). Fields are
//! all that its documentation shows; the rest is refused by name.

/// A tag before it is filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Field(Field),
}

/// What can stand in a tag (moby `daemon/logger/loginfo.go`, the methods of `Info`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Id,
    FullId,
    Name,
    Command,
    ImageId,
    ImageFullId,
    ImageName,
    Hostname,
    DaemonName,
}

const FIELDS: [(&str, Field); 15] = [
    (".ID", Field::Id),
    (".FullID", Field::FullId),
    (".ContainerID", Field::FullId),
    (".Name", Field::Name),
    (".Command", Field::Command),
    (".ImageID", Field::ImageId),
    (".ImageFullID", Field::ImageFullId),
    (".ContainerImageID", Field::ImageFullId),
    (".ImageName", Field::ImageName),
    (".ContainerImageName", Field::ImageName),
    (".Hostname", Field::Hostname),
    (".DaemonName", Field::DaemonName),
    ("(.ID)", Field::Id),
    ("(.Name)", Field::Name),
    ("(.ImageName)", Field::ImageName),
];

/// A tag that cannot be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// `{{` without `}}`.
    #[error("template: log-tag:1: unclosed action")]
    Malformed {
        /// The template.
        template: String,
    },
    /// Something of Docker's template language that is more than a field.
    #[error("the action {{{{{action}}}}} in the log option \"tag\"")]
    NotBuilt {
        /// What stands between the braces.
        action: String,
    },
}

impl Tag {
    /// Read a template.
    ///
    /// # Errors
    /// [`TagError`].
    pub fn parse(template: &str) -> Result<Self, TagError> {
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once("{{") {
            let malformed = || TagError::Malformed { template: template.to_owned() };
            let (action, after) = after.split_once("}}").ok_or_else(malformed)?;
            parts.push(Part::Text(text.to_owned()));
            let field = FIELDS.iter().find(|(name, _)| *name == action.trim());
            let not_built = || TagError::NotBuilt { action: action.to_owned() };
            parts.push(Part::Field(field.ok_or_else(not_built)?.1));
            rest = after;
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Self(parts))
    }

    /// With `value` of each field.
    pub(super) fn render(&self, value: impl Fn(Field) -> String) -> String {
        self.0
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.clone(),
                Part::Field(field) => value(*field),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_text() {
        let value = |field| format!("<{field:?}>");
        for (template, expected) in [
            ("", ""),
            ("plain", "plain"),
            ("{{.Name}}", "<Name>"),
            ("a-{{ .ImageName }}/{{.FullID}}-b", "a-<ImageName>/<FullId>-b"),
            ("}} {{.ID}}", "}} <Id>"),
        ] {
            assert_eq!(Tag::parse(template).unwrap().render(value), expected, "{template}");
        }
    }

    #[test]
    fn what_is_more_is_refused() {
        for (template, expected) in [
            ("{{.Name", "template: log-tag:1: unclosed action"),
            ("{{.Nonsense}}", "the action {{.Nonsense}} in the log option \"tag\""),
            ("{{upper .Name}}", "the action {{upper .Name}} in the log option \"tag\""),
        ] {
            assert_eq!(Tag::parse(template).unwrap_err().to_string(), expected);
        }
    }
}
