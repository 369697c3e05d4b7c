//! The table is whole.

use super::*;
use crate::api::router::{self, Door};
use crate::api::version::{MAX, MIN};

/// Method and path of every endpoint in Docker's reference, API 1.24 to 1.55. The daemon's own diagnostics (`/debug`) are
/// not part of it.
const REFERENCE: &str = include_str!("endpoints-1.55.txt");

fn reference() -> impl Iterator<Item = (&'static str, &'static str)> {
    REFERENCE.lines().map(|line| line.split_once('\t').unwrap())
}

/// A path that a client could send for this endpoint, with a name of several parts where names may have them.
fn example(path: &str) -> String {
    path.replace("{name}", "docker.io/library/x")
        .replace("{id}", "0123")
        .replace("{checkpoint}", "c")
        .replace('*', "x")
}

#[test]
fn every_endpoint_of_dockers_reference_has_its_own_line() {
    for (method, path) in reference() {
        let found = router::find(Door::Docker, method, &example(path))
            .unwrap_or_else(|| panic!("{method} {path} is missing"));
        let shape = |pattern: &str| {
            pattern.split('/').map(|part| part.starts_with('{')).collect::<Vec<_>>()
        };
        if path != "/*" {
            assert_eq!(
                shape(&found.route.plain_pattern()),
                shape(path),
                "{method} {path} goes to {}",
                found.route.pattern
            );
        }
    }
}

#[test]
fn there_is_no_endpoint_that_docker_does_not_have() {
    for route in ROUTES {
        let path = route.plain_pattern().replace("{path}", "*");
        let bare = path.trim_end_matches('/');
        let known = reference().any(|(method, known)| {
            let same = |one: &str, other: &str| {
                one == other || (one.starts_with('{') && other.starts_with('{'))
            };
            method == route.method
                && known.split('/').count() == bare.split('/').count()
                && known.split('/').zip(bare.split('/')).all(|(one, other)| same(one, other))
        });
        assert!(known, "{} {} is not Docker's", route.method, route.pattern);
    }
}

#[test]
fn no_line_hides_behind_another() {
    for route in ROUTES {
        let path = example(&route.pattern.replace("*}", "}").replace("{path}", "x"));
        let found = router::find(Door::Docker, route.method, &path).unwrap();
        assert_eq!(found.route.pattern, route.pattern, "{path}");
    }
}

#[test]
fn changes_finish_and_reads_do_not() {
    for route in ROUTES.iter().filter(|route| route.finishes) {
        assert!(["POST", "PUT", "DELETE"].contains(&route.method), "{}", route.pattern);
    }
    for pattern in
        ["/images/create", "/containers/{id*}/wait", "/containers/{id*}/attach", "/events"]
    {
        let route = ROUTES.iter().find(|route| route.pattern == pattern).unwrap();
        assert!(!route.finishes, "{pattern} ends with its client");
    }
}

#[test]
fn first_versions_are_within_the_range() {
    for since in ROUTES.iter().filter_map(|route| route.since) {
        assert!(MIN < since && since <= MAX);
    }
}

#[test]
fn patterns_are_shown_as_moby_and_as_the_reference_write_them() {
    let route = ROUTES.iter().find(|route| route.pattern.ends_with("attestations")).unwrap();
    assert_eq!(route.moby_pattern(), "/images/{name:.*}/attestations");
    assert_eq!(route.plain_pattern(), "/images/{name}/attestations");
}
