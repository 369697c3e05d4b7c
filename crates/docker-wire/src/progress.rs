//! The messages of pull, push, load, import and build: one JSON object each, `\r\n` after it.
//!
//! Source: moby `api/types/jsonstream`, `daemon/internal/streamformatter/streamformatter.go`.

use serde::Serialize;

use crate::absent::is_default;
use crate::distribution::Descriptor;

/// One message of a progress stream.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProgressMessage {
    /// Output of a build, or the result of a load; brings its own line ends.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub stream: String,
    /// What is happening: `Downloading`, `Pull complete`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub status: String,
    /// How far it is. Present, if empty, in every message about one layer; absent in plain status lines.
    #[serde(rename = "progressDetail", skip_serializing_if = "Option::is_none")]
    pub progress: Option<ProgressDetail>,
    /// The layer or tag that it is about. Clients overwrite the line with the same id.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Why it failed, for clients of today.
    #[serde(rename = "errorDetail", skip_serializing_if = "Option::is_none")]
    pub error_detail: Option<ErrorDetail>,
    /// Why it failed, for clients that read a text only. Always set together with `error_detail`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Data for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aux: Option<Aux>,
}

/// How far a layer is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ProgressDetail {
    /// How much is done, in bytes unless `units` says otherwise.
    #[serde(skip_serializing_if = "is_default")]
    pub current: i64,
    /// How much there is to do; 0 when unknown.
    #[serde(skip_serializing_if = "is_default")]
    pub total: i64,
    /// When it started, in Unix seconds.
    #[serde(skip_serializing_if = "is_default")]
    pub start: i64,
    /// Whether clients should not print the numbers.
    #[serde(rename = "hidecounts", skip_serializing_if = "is_default")]
    pub hide_counts: bool,
    /// What the numbers count; bytes when empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub units: String,
}

/// A failure within a stream, after its head was sent with status 200.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorDetail {
    /// The exit code of a build step, else 0.
    #[serde(skip_serializing_if = "is_default")]
    pub code: i64,
    /// What went wrong.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
}

/// Data for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Aux {
    /// What was pushed.
    Push(PushResult),
    /// What was built.
    Build(BuildResult),
    /// Not what was asked for was pushed.
    Instead(Box<ManifestPushedInsteadOfIndex>),
    /// What was to be pushed is not there.
    Missing(Box<ContentMissing>),
}

/// The data of a push of one platform, because the others are not there (moby `api/types/auxprogress`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestPushedInsteadOfIndex {
    /// Always true: clients know the kind of data by it.
    pub manifest_pushed_instead_of_index: bool,
    /// The image.
    pub original_index: Descriptor,
    /// What was pushed of it.
    pub selected_manifest: Descriptor,
}

/// The data of a push that could not be (moby `api/types/auxprogress`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ContentMissing {
    /// Always true: clients know the kind of data by it.
    pub content_missing: bool,
    /// What was to be pushed.
    pub desc: Descriptor,
}

/// The data of a push, from which tools take the digest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PushResult {
    /// The tag that was pushed.
    pub tag: String,
    /// The digest of its manifest.
    pub digest: String,
    /// The size of the manifest in bytes.
    pub size: i64,
}

/// The data of a build: the image that a step or the whole build made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BuildResult {
    /// `sha256:…`
    #[serde(rename = "ID")]
    pub id: String,
}

impl ProgressMessage {
    /// A plain line: `Status: Downloaded newer image for nginx:latest`.
    #[must_use]
    pub fn status(status: impl Into<String>) -> Self {
        Self { status: status.into(), ..Self::default() }
    }

    /// A line with an id: `Pulling from library/nginx` for `latest`.
    #[must_use]
    pub fn status_of(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self { id: id.into(), status: status.into(), ..Self::default() }
    }

    /// A line about a layer, without numbers: `Pulling fs layer`.
    #[must_use]
    pub fn layer(id: impl Into<String>, status: impl Into<String>) -> Self {
        Self::layer_progress(id, status, ProgressDetail::default())
    }

    /// A line about a layer, with numbers: `Downloading`.
    #[must_use]
    pub fn layer_progress(
        id: impl Into<String>,
        status: impl Into<String>,
        progress: ProgressDetail,
    ) -> Self {
        Self { progress: Some(progress), ..Self::status_of(id, status) }
    }

    /// Output of a build step, or `Loaded image: …\n`.
    #[must_use]
    pub fn output(stream: impl Into<String>) -> Self {
        Self { stream: stream.into(), ..Self::default() }
    }

    /// The end of a stream that failed. `code` is the exit code of a build step, else 0.
    #[must_use]
    pub fn failure(message: impl Into<String>, code: i64) -> Self {
        let message = message.into();
        Self {
            error: message.clone(),
            error_detail: Some(ErrorDetail { code, message }),
            ..Self::default()
        }
    }

    /// What was pushed, at the end of a push: an empty `progressDetail` stands before it.
    #[must_use]
    pub fn push_result(result: PushResult) -> Self {
        let progress = Some(ProgressDetail::default());
        Self { progress, aux: Some(Aux::Push(result)), ..Self::default() }
    }

    /// One platform was pushed in place of the whole image.
    #[must_use]
    pub fn pushed_instead(original_index: Descriptor, selected_manifest: Descriptor) -> Self {
        let instead = ManifestPushedInsteadOfIndex {
            manifest_pushed_instead_of_index: true,
            original_index,
            selected_manifest,
        };
        Self { aux: Some(Aux::Instead(Box::new(instead))), ..Self::default() }
    }

    /// What was to be pushed is not there.
    #[must_use]
    pub fn content_missing(desc: Descriptor) -> Self {
        let missing = ContentMissing { content_missing: true, desc };
        Self { aux: Some(Aux::Missing(Box::new(missing))), ..Self::default() }
    }

    /// The image that was built.
    #[must_use]
    pub fn build_result(id: impl Into<String>) -> Self {
        Self { aux: Some(Aux::Build(BuildResult { id: id.into() })), ..Self::default() }
    }

    /// The message as it goes over the wire.
    ///
    /// # Errors
    /// None in practice: every key is a text.
    pub fn to_line(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut line = serde_json::to_vec(self)?;
        line.extend_from_slice(b"\r\n");
        Ok(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &ProgressMessage) -> String {
        String::from_utf8(message.to_line().unwrap()).unwrap()
    }

    #[test]
    fn lines_of_a_pull() {
        for (message, expected) in [
            (
                ProgressMessage::status_of("latest", "Pulling from library/nginx"),
                r#"{"status":"Pulling from library/nginx","id":"latest"}"#,
            ),
            (
                ProgressMessage::layer("0123456789ab", "Pulling fs layer"),
                r#"{"status":"Pulling fs layer","progressDetail":{},"id":"0123456789ab"}"#,
            ),
            (
                ProgressMessage::layer_progress(
                    "0123456789ab",
                    "Downloading",
                    ProgressDetail { current: 5, total: 10, ..Default::default() },
                ),
                r#"{"status":"Downloading","progressDetail":{"current":5,"total":10},"id":"0123456789ab"}"#,
            ),
            (
                ProgressMessage::layer_progress(
                    "0123456789ab",
                    "Extracting",
                    ProgressDetail { current: 1, units: "s".to_owned(), ..Default::default() },
                ),
                r#"{"status":"Extracting","progressDetail":{"current":1,"units":"s"},"id":"0123456789ab"}"#,
            ),
            (
                ProgressMessage::status("Status: Image is up to date for nginx:latest"),
                r#"{"status":"Status: Image is up to date for nginx:latest"}"#,
            ),
        ] {
            assert_eq!(line(&message), format!("{expected}\r\n"));
        }
    }

    #[test]
    fn failures_are_told_twice() {
        assert_eq!(
            line(&ProgressMessage::failure("no", 0)),
            "{\"errorDetail\":{\"message\":\"no\"},\"error\":\"no\"}\r\n"
        );
        assert_eq!(
            line(&ProgressMessage::failure(
                "The command '/bin/false' returned a non-zero code: 1",
                1
            )),
            "{\"errorDetail\":{\"code\":1,\"message\":\"The command '/bin/false' returned a non-zero code: 1\"},\
             \"error\":\"The command '/bin/false' returned a non-zero code: 1\"}\r\n"
        );
    }

    #[test]
    fn data_for_programs() {
        let push = PushResult { tag: "latest".to_owned(), digest: "sha256:ab".to_owned(), size: 7 };
        assert_eq!(
            line(&ProgressMessage::push_result(push)),
            "{\"progressDetail\":{},\"aux\":{\"Tag\":\"latest\",\"Digest\":\"sha256:ab\",\"Size\":7}}\r\n"
        );
        let descriptor =
            |digest: &str| Descriptor { digest: digest.to_owned(), ..Descriptor::default() };
        assert_eq!(
            line(&ProgressMessage::pushed_instead(descriptor("a"), descriptor("b"))),
            "{\"aux\":{\"manifestPushedInsteadOfIndex\":true,\"originalIndex\":{\"mediaType\":\"\",\"digest\":\"a\",\"size\":0},\
             \"selectedManifest\":{\"mediaType\":\"\",\"digest\":\"b\",\"size\":0}}}\r\n"
        );
        assert_eq!(
            line(&ProgressMessage::content_missing(descriptor("a"))),
            "{\"aux\":{\"contentMissing\":true,\"desc\":{\"mediaType\":\"\",\"digest\":\"a\",\"size\":0}}}\r\n"
        );
        assert_eq!(
            line(&ProgressMessage::build_result("sha256:ab")),
            "{\"aux\":{\"ID\":\"sha256:ab\"}}\r\n"
        );
        assert_eq!(
            line(&ProgressMessage::output("Step 1/1 : FROM x\n")),
            "{\"stream\":\"Step 1/1 : FROM x\\n\"}\r\n"
        );
    }
}
