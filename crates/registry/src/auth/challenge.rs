//! `WWW-Authenticate`: what a host wants to see (RFC 9110 §11.6.1).

use std::collections::BTreeMap;

/// One challenge: a scheme and its parameters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// In lower case.
    scheme: String,
    /// Names in lower case.
    parameters: BTreeMap<String, String>,
}

impl Challenge {
    /// All challenges of one header value; what cannot be understood ends the list.
    pub(crate) fn parse_all(value: &str) -> Vec<Self> {
        let mut challenges: Vec<Self> = Vec::new();
        let mut rest = value.trim_start();
        while !rest.is_empty() {
            let (word, after) = token(rest);
            if word.is_empty() {
                break;
            }
            let after = after.trim_start();
            match (after.strip_prefix('='), challenges.last_mut()) {
                (Some(value), Some(challenge)) => {
                    let Some((value, after)) = parameter_value(value.trim_start()) else { break };
                    challenge.parameters.insert(word.to_ascii_lowercase(), value);
                    rest = after;
                }
                (Some(_), None) => break,
                (None, _) => {
                    challenges.push(Self {
                        scheme: word.to_ascii_lowercase(),
                        parameters: BTreeMap::new(),
                    });
                    rest = after;
                }
            }
            rest = rest.trim_start_matches([',', ' ', '\t']);
        }
        challenges
    }

    pub(crate) fn is_bearer(&self) -> bool {
        self.scheme == "bearer"
    }

    pub(crate) fn is_basic(&self) -> bool {
        self.scheme == "basic"
    }

    /// The token server.
    pub(crate) fn realm(&self) -> Option<&str> {
        self.parameter("realm")
    }

    /// What the token server calls the registry; may be empty.
    pub(crate) fn service(&self) -> &str {
        self.parameter("service").unwrap_or_default()
    }

    /// Why a token was refused (RFC 6750 §3.1).
    pub(crate) fn error(&self) -> Option<&str> {
        self.parameter("error")
    }

    /// The scopes asked for and the one we need, sorted, each once.
    pub(crate) fn scopes_with(&self, needed: &[String]) -> Vec<String> {
        let asked = self.parameter("scope").unwrap_or_default();
        let mut scopes: Vec<_> = asked
            .split(' ')
            .chain(needed.iter().map(String::as_str))
            .filter(|scope| !scope.is_empty())
            .map(str::to_owned)
            .collect();
        scopes.sort();
        scopes.dedup();
        scopes
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

fn token(text: &str) -> (&str, &str) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    let end = text.find(|c| !is_token(c)).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows it.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        // Some registries leave the quotes off a URL; up to the next comma it must be the value.
        let end = text.find([',', ' ']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(characters.next()?.1),
            c => value.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_of_real_registries() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/x:pull",error="insufficient_scope""#;
        let parsed = Challenge::parse_all(hub);
        assert_eq!(parsed.len(), 1);
        assert!(parsed[0].is_bearer());
        assert_eq!(parsed[0].realm(), Some("https://auth.docker.io/token"));
        assert_eq!(parsed[0].service(), "registry.docker.io");
        assert_eq!(parsed[0].error(), Some("insufficient_scope"));
        assert_eq!(
            parsed[0].scopes_with(&["repository:library/x:pull".to_owned()]),
            ["repository:library/x:pull"]
        );
        assert_eq!(
            parsed[0].scopes_with(&["a:b:c".to_owned()]),
            ["a:b:c", "repository:library/x:pull"]
        );

        let two = Challenge::parse_all(
            r#"Basic realm="a \"quoted\" realm", Bearer realm=https://t/x , service=s"#,
        );
        assert_eq!(two.len(), 2);
        assert!(two[0].is_basic() && two[1].is_bearer());
        assert_eq!(two[0].realm(), Some(r#"a "quoted" realm"#));
        assert_eq!((two[1].realm(), two[1].service()), (Some("https://t/x"), "s"));
    }

    #[test]
    fn nonsense_is_no_challenge() {
        for text in ["", "=", ",,,", "\"", "realm=\"x\""] {
            assert_eq!(Challenge::parse_all(text), [], "{text}");
        }
        assert_eq!(Challenge::parse_all("Bearer realm=\"unfinished")[0].realm(), None);
    }
}
