//! The `filters` parameter of lists, prunes and events.
//!
//! Two encodings are in use: sets as maps of booleans (`{"label":{"a=b":true}}`, Go clients) and lists
//! (`{"label":["a=b"]}`, everybody else). Values of one key are alternatives, different keys must all match;
//! labels are the exception, there all values must match.
//!
//! Source: moby `daemon/internal/filters/parse.go`, and for the accepted keys `daemon/list.go`,
//! `daemon/prune.go`, `daemon/network/filter.go`, `daemon/containerd/image_list.go`, `image_prune.go`,
//! `daemon/volume/service/service.go`, `daemon/server/router/build`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{Timestamp, Zoned};
use regex_lite::{Regex, RegexBuilder};
use serde::Deserialize;

use crate::time::{self, InvalidTime};

/// Keys of `GET /containers/json`.
pub const CONTAINER_LIST: &[&str] = &[
    "ancestor",
    "before",
    "exited",
    "expose",
    "health",
    "id",
    "is-task",
    "isolation",
    "label",
    "name",
    "network",
    "publish",
    "since",
    "status",
    "volume",
];
/// Keys of `POST /containers/prune`.
pub const CONTAINER_PRUNE: &[&str] = &["label", "label!", "until"];
/// Keys of `GET /images/json`.
pub const IMAGE_LIST: &[&str] =
    &["before", "dangling", "label", "label!", "reference", "since", "until"];
/// Keys of `POST /images/prune`.
pub const IMAGE_PRUNE: &[&str] = &["dangling", "label", "label!", "until"];
/// Keys of `GET /images/search`.
pub const IMAGE_SEARCH: &[&str] = &["is-automated", "is-official", "stars"];
/// Keys of `GET /networks`.
pub const NETWORK_LIST: &[&str] = &["dangling", "driver", "id", "label", "name", "scope", "type"];
/// Keys of `POST /networks/prune`.
pub const NETWORK_PRUNE: &[&str] = &["label", "label!", "until"];
/// Keys of `GET /volumes`.
pub const VOLUME_LIST: &[&str] = &["dangling", "driver", "label", "name"];
/// Keys of `POST /volumes/prune`.
pub const VOLUME_PRUNE: &[&str] = &["all", "label", "label!"];
/// Keys of `POST /build/prune`.
pub const BUILD_PRUNE: &[&str] = &[
    "description",
    "id",
    "inuse",
    "mutable",
    "parent",
    "private",
    "shared",
    "type",
    "until",
    "unused-for",
];
/// Keys of `GET /plugins`.
pub const PLUGIN_LIST: &[&str] = &["capability", "enabled"];

/// Memory for all patterns of a key: the length of a pattern says nothing about how large it is when compiled.
const PATTERN_BYTES: usize = 1 << 20;
/// So much each pattern may take, however many there are: enough for names as people write them.
const LEAST_PATTERN_BYTES: usize = 8 << 10;

/// Decoded filters: for each key the values that were given, perhaps none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    fields: BTreeMap<String, BTreeSet<String>>,
}

/// A `filters` parameter that cannot be obeyed (status 400). Prints Docker's messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFilter {
    /// It is not JSON, or mixes the two encodings.
    #[error("invalid filter")]
    Undecodable,
    /// The endpoint has no such key.
    #[error("invalid filter '{0}'")]
    UnknownKey(String),
    /// A boolean key whose values do not say yes or no.
    #[error("invalid filter '{key}={}'", go_list(values))]
    NotBoolean {
        /// The key.
        key: String,
        /// All its values.
        values: Vec<String>,
    },
    /// A value that is none of the few that its key knows.
    #[error("invalid filter '{key}={value}': invalid value for {what} ({value}): must be one of {}", known.join(", "))]
    UnknownValue {
        /// The key.
        key: &'static str,
        /// The value.
        value: String,
        /// What the values are, in Docker's words.
        what: &'static str,
        /// The values there are.
        known: &'static [&'static str],
    },
    /// `until` was given more than once.
    #[error("more than one until filter specified")]
    SeveralUntil,
    /// `until` is not a time. The text is the source's.
    #[error(transparent)]
    Until(#[from] InvalidTime),
}

/// Go's way of printing a list: `[a b]`.
fn go_list(values: &[String]) -> String {
    format!("[{}]", values.join(" "))
}

/// What stands behind one key. The encodings may not be mixed, so this is chosen for the object as a whole.
#[derive(Deserialize)]
#[serde(untagged)]
enum Encoded {
    Sets(BTreeMap<String, Option<BTreeMap<String, Option<bool>>>>),
    Lists(BTreeMap<String, Option<Vec<Option<String>>>>),
}

impl Filters {
    /// Reads the value of the parameter. An empty one means no filters.
    ///
    /// Values of the set encoding that are `false` are dropped; nobody sends them.
    ///
    /// # Errors
    /// [`InvalidFilter::Undecodable`].
    pub fn parse(given: &str) -> Result<Self, InvalidFilter> {
        if given.is_empty() {
            return Ok(Self::default());
        }
        let encoded: Option<Encoded> =
            serde_json::from_str(given).map_err(|_| InvalidFilter::Undecodable)?;
        let fields = match encoded {
            None => BTreeMap::new(),
            Some(Encoded::Sets(sets)) => {
                sets.into_iter().map(|(key, set)| (key, members(set))).collect()
            }
            Some(Encoded::Lists(lists)) => {
                lists.into_iter().map(|(key, list)| (key, elements(list))).collect()
            }
        };
        Ok(Self { fields })
    }

    /// Refuses keys that the endpoint does not have.
    ///
    /// # Errors
    /// [`InvalidFilter::UnknownKey`] for the first such key.
    pub fn accept_only(&self, known: &[&str]) -> Result<(), InvalidFilter> {
        match self.fields.keys().find(|key| !known.contains(&key.as_str())) {
            None => Ok(()),
            Some(unknown) => Err(InvalidFilter::UnknownKey(unknown.clone())),
        }
    }

    /// Refuses values of `key` that are not among `known`, which are called `what` in the message.
    ///
    /// # Errors
    /// [`InvalidFilter::UnknownValue`] for the first such value.
    pub fn accept_values(
        &self,
        key: &'static str,
        what: &'static str,
        known: &'static [&'static str],
    ) -> Result<(), InvalidFilter> {
        match self.values(key).find(|value| !known.contains(value)) {
            None => Ok(()),
            Some(value) => {
                Err(InvalidFilter::UnknownValue { key, value: value.to_owned(), what, known })
            }
        }
    }

    /// Whether there are no filters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// Whether the key was given, be it without values.
    #[must_use]
    pub fn contains(&self, key: &str) -> bool {
        self.fields.contains_key(key)
    }

    /// The values of `key`, sorted.
    pub fn values<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a str> {
        self.fields.get(key).into_iter().flatten().map(String::as_str)
    }

    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.fields.keys().map(String::as_str)
    }

    /// Adds a value, for older API versions where it was implied.
    pub fn insert(&mut self, key: &str, value: &str) {
        self.fields.entry(key.to_owned()).or_default().insert(value.to_owned());
    }

    /// A key that says yes (`1`, `true`) or no (`0`, `false`); `None` when it was not given.
    ///
    /// # Errors
    /// [`InvalidFilter::NotBoolean`] for other values or for both at once.
    pub fn flag(&self, key: &str) -> Result<Option<bool>, InvalidFilter> {
        let Some(values) = self.fields.get(key) else {
            return Ok(None);
        };
        let no = values.contains("0") || values.contains("false");
        let yes = values.contains("1") || values.contains("true");
        match (yes, no) {
            (true, false) => Ok(Some(true)),
            (false, true) => Ok(Some(false)),
            _ if values.is_empty() => Err(InvalidFilter::UnknownKey(key.to_owned())),
            _ => Err(InvalidFilter::NotBoolean {
                key: key.to_owned(),
                values: values.iter().cloned().collect(),
            }),
        }
    }

    /// The `until` of prunes: things made after this moment are kept. `now` also gives the zone of local times.
    ///
    /// # Errors
    /// [`InvalidFilter::SeveralUntil`], [`InvalidFilter::Until`].
    pub fn until(&self, now: &Zoned) -> Result<Option<Timestamp>, InvalidFilter> {
        let mut values = self.values("until");
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(InvalidFilter::SeveralUntil);
        }
        Ok(Some(time::parse(value, now)?))
    }

    /// Whether `source` is one of the values of `key`, or there are none.
    #[must_use]
    pub fn matches_exactly(&self, key: &str, source: &str) -> bool {
        self.fields.get(key).is_none_or(|values| values.is_empty() || values.contains(source))
    }

    /// Whether `source` starts with one of the values of `key`, or there are none.
    #[must_use]
    pub fn matches_prefix(&self, key: &str, source: &str) -> bool {
        self.fields.get(key).is_none_or(|values| {
            values.is_empty() || values.iter().any(|value| source.starts_with(value.as_str()))
        })
    }

    /// Whether an object with these labels passes `label` and `label!`.
    ///
    /// All values of `label` must match, each a key or `key=value`. An object that matches all of `label!`, which
    /// only prunes have, does not pass.
    #[must_use]
    pub fn matches_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.all_labels_match("label", labels)
            && !(self.contains("label!") && self.all_labels_match("label!", labels))
    }

    fn all_labels_match(&self, filter: &str, labels: &BTreeMap<String, String>) -> bool {
        self.values(filter).all(|wanted| match wanted.split_once('=') {
            None => labels.contains_key(wanted),
            Some((key, value)) => labels.get(key).is_some_and(|actual| actual == value),
        })
    }

    /// The values of `key` as patterns: compiled once, to be tried on many objects. They share [`PATTERN_BYTES`].
    #[must_use]
    pub fn patterns(&self, key: &str) -> Patterns {
        let exact = self.fields.get(key).cloned().unwrap_or_default();
        let limit = (PATTERN_BYTES / exact.len().max(1)).max(LEAST_PATTERN_BYTES);
        let compile = |value: &String| RegexBuilder::new(value).size_limit(limit).build().ok();
        let regexes = exact.iter().filter_map(compile).collect();
        Patterns { exact, regexes }
    }
}

/// The members of a set that are `true`.
fn members(set: Option<BTreeMap<String, Option<bool>>>) -> BTreeSet<String> {
    set.unwrap_or_default()
        .into_iter()
        .filter(|(_, member)| *member == Some(true))
        .map(|(value, _)| value)
        .collect()
}

fn elements(list: Option<Vec<Option<String>>>) -> BTreeSet<String> {
    list.unwrap_or_default().into_iter().map(Option::unwrap_or_default).collect()
}

/// Values that match exactly or as regular expressions, not anchored: `name` filters.
///
/// A value that is no regular expression still matches exactly; so do those that would be too large when compiled, and the few expressions that Go knows and this
/// engine does not, such as classes of Unicode. The engine takes linear time, so that nobody can make us search
/// forever.
#[derive(Clone, Debug)]
pub struct Patterns {
    exact: BTreeSet<String>,
    regexes: Vec<Regex>,
}

impl Patterns {
    /// Whether `source` matches one of the values, or there are none.
    #[must_use]
    pub fn matches(&self, source: &str) -> bool {
        self.exact.is_empty()
            || self.exact.contains(source)
            || self.regexes.iter().any(|regex| regex.is_match(source))
    }

    /// Whether there are no values, so that everything matches.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.exact.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filters(json: &str) -> Filters {
        Filters::parse(json).unwrap()
    }

    fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn now() -> Zoned {
        "2024-01-10T00:00:00+00:00[+00:00]".parse().unwrap()
    }

    #[test]
    fn both_encodings_mean_the_same() {
        let sets = filters(r#"{"label":{"a=b":true,"c":true},"status":{"running":true}}"#);
        let lists = filters(r#"{"label":["a=b","c"],"status":["running"]}"#);
        assert_eq!(sets, lists);
        assert_eq!(sets.values("label").collect::<Vec<_>>(), ["a=b", "c"]);
        assert_eq!(sets.keys().collect::<Vec<_>>(), ["label", "status"]);
    }

    #[test]
    fn nothing_filters_nothing() {
        for none in ["", "{}", "null", " {} "] {
            assert!(filters(none).is_empty(), "{none:?}");
        }
        let empty = filters(r#"{"name":{},"id":{},"driver":null}"#);
        assert!(empty.contains("name") && empty.contains("id") && empty.contains("driver"));
        assert!(empty.matches_exactly("id", "x") && empty.matches_prefix("id", "x"));
        assert!(empty.patterns("name").matches("x"));
    }

    #[test]
    fn what_cannot_be_decoded() {
        for bad in [
            "x",
            "[]",
            "\"a\"",
            r#"{"a":"b"}"#,
            r#"{"a":{"b":true},"c":["d"]}"#,
            r#"{"a":[1]}"#,
            r#"{"a":{"b":1}}"#,
            "{}{}",
        ] {
            assert_eq!(Filters::parse(bad).unwrap_err().to_string(), "invalid filter", "{bad}");
        }
    }

    #[test]
    fn unknown_keys_are_named() {
        let given = filters(r#"{"label":["a"],"xyz":["b"]}"#);
        assert_eq!(
            given.accept_only(CONTAINER_LIST).unwrap_err().to_string(),
            "invalid filter 'xyz'"
        );
        assert_eq!(filters(r#"{"label!":["a"]}"#).accept_only(CONTAINER_PRUNE), Ok(()));
    }

    #[test]
    fn unknown_values_are_named_with_the_known_ones() {
        let given = filters(r#"{"health":["fine"]}"#);
        let error = given.accept_values("health", "health", &["none", "healthy"]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "invalid filter 'health=fine': invalid value for health (fine): must be one of none, healthy"
        );
        assert_eq!(given.accept_values("health", "health", &["fine"]), Ok(()));
    }

    #[test]
    fn booleans_have_one_value() {
        assert_eq!(filters(r#"{"dangling":["1"]}"#).flag("dangling"), Ok(Some(true)));
        assert_eq!(filters(r#"{"dangling":{"false":true}}"#).flag("dangling"), Ok(Some(false)));
        assert_eq!(filters("{}").flag("dangling"), Ok(None));
        for (given, expected) in [
            (r#"{"dangling":["x"]}"#, "invalid filter 'dangling=[x]'"),
            (r#"{"dangling":["true","0"]}"#, "invalid filter 'dangling=[0 true]'"),
            (r#"{"dangling":[]}"#, "invalid filter 'dangling'"),
        ] {
            assert_eq!(filters(given).flag("dangling").unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn labels_must_all_match() {
        let both = filters(r#"{"label":["a","b=1=2"]}"#);
        assert!(both.matches_labels(&labels(&[("a", "x"), ("b", "1=2")])));
        assert!(!both.matches_labels(&labels(&[("a", "x"), ("b", "1")])));
        assert!(!both.matches_labels(&labels(&[("a", "x")])));
        assert!(!both.matches_labels(&labels(&[])));
        assert!(filters("{}").matches_labels(&labels(&[])));
    }

    #[test]
    fn negated_labels_protect() {
        let keep = filters(r#"{"label!":["keep"]}"#);
        assert!(!keep.matches_labels(&labels(&[("keep", "")])));
        assert!(keep.matches_labels(&labels(&[("other", "")])));
        assert!(keep.matches_labels(&labels(&[])));
    }

    #[test]
    fn names_match_exactly_or_as_patterns() {
        let matches = |pattern: &str, name: &str| {
            let mut filters = Filters::default();
            filters.insert("name", pattern);
            filters.patterns("name").matches(name)
        };
        assert!(matches("web", "my-web-1"), "not anchored");
        assert!(matches("^/web$", "/web") && !matches("^/web$", "/web2"));
        assert!(matches("^web[0-9]+$", "web12"));
        assert!(matches("(", "(") && !matches("(", "x"), "no pattern, so only itself");
        assert!(filters(r#"{"name":["a","b"]}"#).patterns("name").matches("xbx"), "alternatives");
    }

    #[test]
    fn hostile_patterns_end() {
        let mut filters = Filters::default();
        filters.insert("name", "(a*)*(a*)*(a*)*$");
        let large = "((((a{100}){100}){100}){100}){100}";
        filters.insert("name", large);
        filters.insert("name", &"(".repeat(10_000));
        let patterns = filters.patterns("name");
        assert_eq!(patterns.regexes.len(), 1, "what is too large or too deep is not compiled");
        assert!(patterns.matches(&format!("{}!", "a".repeat(1000))), "the empty match at the end");
        assert!(patterns.matches(large), "but is a text still");
    }

    #[test]
    fn many_patterns_share_the_memory() {
        let named = |count: usize, pattern: &dyn Fn(usize) -> String| {
            let mut filters = Filters::default();
            (0..count).for_each(|number| filters.insert("name", &pattern(number)));
            filters.patterns("name")
        };
        let hostile = named(2000, &|number| format!("a{{{}}}", 300_000 + number));
        assert!(hostile.regexes.is_empty() && !hostile.matches(&"a".repeat(400_000)));
        let modest = named(2000, &|number| format!("^/project-web-{number}$"));
        assert_eq!(modest.regexes.len(), 2000);
        assert!(modest.matches("/project-web-1999"));
    }

    #[test]
    fn ids_match_by_prefix() {
        let given = filters(r#"{"id":["ab","cd"]}"#);
        assert!(
            given.matches_prefix("id", "abc")
                && given.matches_prefix("id", "cd")
                && !given.matches_prefix("id", "a")
        );
        assert!(given.matches_exactly("id", "ab") && !given.matches_exactly("id", "abc"));
    }

    #[test]
    fn until_is_one_moment() {
        let until = |json: &str| {
            filters(json).until(&now()).map(|until| until.map(|moment| moment.to_string()))
        };
        assert_eq!(until(r#"{"until":["24h"]}"#), Ok(Some("2024-01-09T00:00:00Z".to_owned())));
        assert_eq!(until("{}"), Ok(None));
        assert_eq!(
            until(r#"{"until":["24h","1h"]}"#).unwrap_err().to_string(),
            "more than one until filter specified"
        );
        assert!(until(r#"{"until":["x"]}"#).is_err());
    }

    /// Random parameters never panic, and what is accepted can be asked anything.
    #[test]
    fn random_parameters() {
        const FRAGMENTS: &[&str] = &[
            "{",
            "}",
            "[",
            "]",
            ":",
            ",",
            "\"name\"",
            "\"a(\"",
            "\"^b$\"",
            "true",
            "null",
            "1",
            "{\"name\":[\"",
            "\"]}",
            "{\"label\":{\"k=v\":true",
            "}}",
            "\\u0000",
            "\"until\"",
            "\"1h\"",
        ];
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut below = |limit: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            usize::try_from(state >> 33).unwrap() % limit
        };
        let mut understood = 0;
        for _ in 0..30_000 {
            let length = below(9);
            let json: String = (0..length).map(|_| FRAGMENTS[below(FRAGMENTS.len())]).collect();
            let Ok(filters) = Filters::parse(&json) else { continue };
            understood += 1;
            let _ = filters.accept_only(CONTAINER_LIST);
            let _ = filters.until(&now());
            let _ = filters.flag("name");
            let _ = filters.matches_labels(&labels(&[("k", "v")]));
            let _ = filters.patterns("name").matches("b");
        }
        assert!(understood > 50, "the fragments should often make sense, {understood} did");
    }
}
