//! From a request's path to a route of the table.
//!
//! A framework's router would not do: names contain slashes in the middle of a path
//! (`/images/docker.io/library/alpine/json`), wrong methods are 404 and not 405, and every path exists twice, bare and
//! below `/v1.41`. Patterns are plain text: `{id}` is one segment, `{name*}` is anything, slashes included. The first
//! route that matches wins, in the order of the table, as in dockerd's (gorilla/mux).

use docker_wire::query::{self, InvalidQuery};

use super::routes::{METRICS, OWN, ROUTES, Route};

/// A route and what its placeholders matched.
#[derive(Debug)]
pub(super) struct Found {
    /// The route.
    pub(super) route: &'static Route,
    /// Values by name of the placeholder.
    pub(super) parameters: Vec<(&'static str, String)>,
}

/// A path, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// What the path says, without the `v`.
    pub(super) version: Option<String>,
    /// The rest, percent-decoded.
    pub(super) path: String,
}

impl Target {
    /// Take `path` apart.
    ///
    /// # Errors
    /// Its percent-encoding is broken.
    pub(super) fn parse(path: &str) -> Result<Self, InvalidQuery> {
        let path = query::decode_path(path)?;
        if let Some((version, rest)) = split_version(&path) {
            return Ok(Self { version: Some(version.to_owned()), path: rest.to_owned() });
        }
        Ok(Self { version: None, path })
    }
}

/// `/v1.41/info` is `("1.41", "/info")`; `/volumes` and `/version` have no version.
fn split_version(path: &str) -> Option<(&str, &str)> {
    let rest = path.strip_prefix("/v")?;
    let slash = rest.find('/')?;
    let (version, rest) = rest.split_at(slash);
    let digits_and_dots =
        !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    digits_and_dots.then_some((version, rest))
}

/// Where a request came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Door {
    /// The listeners.
    Docker,
    /// The address for metrics.
    Metrics,
}

/// The first route for this method and decoded path.
pub(super) fn find(door: Door, method: &str, path: &str) -> Option<Found> {
    let (first, second) = match door {
        Door::Docker => (ROUTES, OWN),
        Door::Metrics => (METRICS, &[][..]),
    };
    first.iter().chain(second).filter(|route| route.method == method).find_map(|route| {
        let mut parameters = Vec::new();
        capture(route.pattern, path, &mut parameters).then_some(Found { route, parameters })
    })
}

/// Whether `path` has the form of `pattern`; the values of the placeholders are appended, the last one first.
fn capture(
    pattern: &'static str,
    path: &str,
    parameters: &mut Vec<(&'static str, String)>,
) -> bool {
    let Some((literal, placeholder)) = pattern.split_once('{') else {
        return pattern == path;
    };
    let Some(path) = path.strip_prefix(literal) else { return false };
    let Some((name, rest)) = placeholder.split_once('}') else { return false };
    let mut take = |at: usize, name: &'static str| {
        let found = path.is_char_boundary(at) && capture(rest, &path[at..], parameters);
        if found {
            parameters.push((name, path[..at].to_owned()));
        }
        found
    };
    match name.strip_suffix('*') {
        // Greedy: the longest value first, so that a name may contain what follows the placeholder.
        Some(name) => (0..=path.len()).rev().any(|at| take(at, name)),
        None => {
            let end = path.find('/').unwrap_or(path.len());
            end > 0 && take(end, name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captured(pattern: &'static str, path: &str) -> Option<Vec<(&'static str, String)>> {
        let mut parameters = Vec::new();
        capture(pattern, path, &mut parameters).then_some(parameters)
    }

    fn route(method: &str, path: &str) -> Option<(&'static str, Vec<String>)> {
        let target = Target::parse(path).unwrap();
        let found = find(Door::Docker, method, &target.path)?;
        Some((found.route.pattern, found.parameters.into_iter().map(|(_, value)| value).collect()))
    }

    #[test]
    fn names_may_contain_slashes_and_what_follows_them() {
        let value = |name: &str| Some(vec![("name", name.to_owned())]);
        let pattern = "/images/{name*}/json";
        assert_eq!(captured(pattern, "/images/alpine/json"), value("alpine"));
        assert_eq!(
            captured(pattern, "/images/docker.io/library/alpine:3/json"),
            value("docker.io/library/alpine:3")
        );
        assert_eq!(captured(pattern, "/images/a/json/json"), value("a/json"));
        assert_eq!(captured(pattern, "/images/ä/json"), value("ä"));
        assert_eq!(captured(pattern, "/images/alpine/history"), None);
        assert_eq!(captured(pattern, "/images/json"), None);
    }

    #[test]
    fn a_plain_placeholder_is_one_segment() {
        assert_eq!(captured("/nodes/{id}", "/nodes/a"), Some(vec![("id", "a".to_owned())]));
        assert_eq!(captured("/nodes/{id}", "/nodes/a/b"), None);
        assert_eq!(captured("/nodes/{id}", "/nodes/"), None);
        let both = captured(
            "/containers/{name*}/checkpoints/{checkpoint}",
            "/containers/a/b/checkpoints/c",
        )
        .unwrap();
        assert_eq!(both, [("checkpoint", "c".to_owned()), ("name", "a/b".to_owned())]);
    }

    #[test]
    fn versions_are_cut_off_and_names_are_decoded() {
        let target = Target::parse("/v1.41/images/library%2Fnginx%3A1.25/json").unwrap();
        assert_eq!(
            target,
            Target { version: Some("1.41".into()), path: "/images/library/nginx:1.25/json".into() }
        );
        for bare in ["/volumes", "/version", "/v/info", "/vx/info", "/v1.41"] {
            assert_eq!(Target::parse(bare).unwrap(), Target { version: None, path: bare.into() });
        }
        assert_eq!(Target::parse("/a+b").unwrap().path, "/a+b");
        for broken in ["/%", "/%4", "/%zz"] {
            assert!(Target::parse(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn fixed_paths_come_before_patterns() {
        assert_eq!(route("GET", "/images/json"), Some(("/images/json", vec![])));
        assert_eq!(
            route("GET", "/images/json/json"),
            Some(("/images/{name*}/json", vec!["json".into()]))
        );
        assert_eq!(
            route("GET", "/images/a/b/get"),
            Some(("/images/{name*}/get", vec!["a/b".into()]))
        );
        assert_eq!(
            route("GET", "/containers/x/attach/ws"),
            Some(("/containers/{id*}/attach/ws", vec!["x".into()]))
        );
        assert_eq!(route("POST", "/containers/prune"), Some(("/containers/prune", vec![])));
        assert_eq!(
            route("DELETE", "/containers/%2Fweb"),
            Some(("/containers/{id*}", vec!["/web".into()]))
        );
    }

    #[test]
    fn wrong_methods_and_unknown_paths_are_nothing() {
        assert_eq!(route("PUT", "/containers/json"), None);
        assert_eq!(route("GET", "/nonsense"), None);
        assert_eq!(route("POST", "/containers/x/copy"), None, "gone since 1.24");
        assert_eq!(route("GET", "/debug/vars"), None);
    }
}
