//! JSON in, nearly by the rules of Go's decoder, because every client was tested against it.
//!
//! - Keys match in any case: `hostconfig` is `HostConfig`. Of equal keys the last wins.
//! - `null` is the same as an absent key, at every depth; as a map value or list element it is the zero value.
//! - Unknown keys are ignored.
//! - A struct is never read from a list, a number never from a text.
//! - Invalid UTF-8 becomes U+FFFD.
//!
//! serde_json does little of that by itself. So a body is parsed into a [`Value`] first, and `decode/adapter.rs`
//! shows that tree to serde the way Go would see it. It relies on `deserialize_struct` being given the list of
//! field names; `#[serde(flatten)]` takes that list away and must not be used in requests.
//! serde_json's limit of 128 levels keeps both steps from exhausting the stack.
//!
//! What no client sends is read otherwise than by Go:
//! - When several spellings of one key come together, Docker's own wins; Go takes the last one.
//! - Of objects under equal keys the last one counts alone; Go merges them.
//! - Only ASCII letters match in any case; Go takes `K` (Kelvin) for `k` and `ſ` for `s`.
//! - Half a surrogate pair (`"\ud800"`), more than 128 levels (Go: 10,000), a fraction beyond `f64` even under an
//!   unknown key, and `-0` for an integer are refused.
//!
//! Source: Go `encoding/json`; moby `daemon/server/httputils/httputils.go` (`ReadJSON`) for the messages.

mod adapter;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use adapter::Adapter;

/// Why a body could not be read. Every case is the client's fault (status 400); the text is Docker's as far as
/// Docker has one.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// There was no JSON at all, only blanks.
    #[error("invalid JSON: got EOF while reading request body")]
    Empty,
    /// Something follows the JSON value.
    #[error("unexpected content after JSON")]
    Trailing,
    /// It is not JSON.
    #[error("invalid JSON")]
    Syntax(#[source] serde_json::Error),
    /// It is JSON of the wrong shape, for example a text where a number is meant. Says where (keys joined by
    /// dots, list positions in brackets), what was found and what was expected.
    #[error("invalid JSON: {0}")]
    Shape(String),
}

/// Reads a body.
///
/// # Errors
/// See [`DecodeError`]. A body of no bytes is an error here; endpoints that take "nothing" for "all defaults"
/// ask before they call.
pub fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, DecodeError> {
    from_value(&value(body)?)
}

/// Reads a body as far as it can be read without knowing what it is about.
///
/// # Errors
/// See [`DecodeError`]; never `Shape`.
pub fn value(body: &[u8]) -> Result<Value, DecodeError> {
    let text = String::from_utf8_lossy(body);
    if text.trim_ascii().is_empty() {
        return Err(DecodeError::Empty);
    }
    let mut parser = serde_json::Deserializer::from_str(&text);
    let value = Value::deserialize(&mut parser).map_err(DecodeError::Syntax)?;
    parser.end().map_err(|_| DecodeError::Trailing)?;
    Ok(value)
}

/// Reads a value that was parsed already.
///
/// # Errors
/// [`DecodeError::Shape`] when the value does not have the shape of `T`.
pub fn from_value<T: DeserializeOwned>(value: &Value) -> Result<T, DecodeError> {
    from_value_within(value).map_err(DecodeError::Shape)
}

/// As [`from_value`], for `Deserialize` written by hand: the error is place and reason only.
pub(crate) fn from_value_within<T: DeserializeOwned>(value: &Value) -> Result<T, String> {
    T::deserialize(Adapter::new(value)).map_err(|failure| failure.located())
}

/// The names of those fields of `T` that the value sets to something other than `null`, `""`, `0`, `false`,
/// `[]` or `{}`, as dotted paths in Docker's spelling: `HostConfig.CapAdd`, `HostConfig.RestartPolicy.Name`.
///
/// Lists and maps count as a whole, and an array of zeros is zero. Unknown keys are not named. A value that is no `T` yields what was
/// understood before the first mistake.
#[must_use]
pub fn set_fields<T: DeserializeOwned>(value: &Value) -> Vec<String> {
    let seen = std::cell::RefCell::new(Vec::new());
    // Decoding again for its side effect: only the types know which objects are structs and which are maps.
    let _ = T::deserialize(Adapter::recording(value, &seen));
    seen.into_inner()
}

/// Whether the value is an object with at least one key that is a field of `T`, in any spelling.
#[must_use]
pub fn has_any_field<T: DeserializeOwned>(value: &Value) -> bool {
    let names = adapter::field_names::<T>();
    let is_field = |key: &String| names.iter().any(|name| name.eq_ignore_ascii_case(key));
    value.as_object().is_some_and(|object| object.keys().any(is_field))
}

/// Reads a list of texts, or one text as a list of one. For `#[serde(deserialize_with = …)]`.
///
/// Docker took both for `Cmd` and `Entrypoint` until 28.x, and clients of that time still send texts.
///
/// # Errors
/// Whatever the deserializer reports, for example a number in the list.
pub fn string_or_list<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    deserializer.deserialize_any(StringOrList)
}

struct StringOrList;

impl<'de> serde::de::Visitor<'de> for StringOrList {
    type Value = Option<Vec<String>>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a string or a list of strings")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(vec![text.to_owned()]))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
        Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(list)).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Outer {
        name: String,
        count: i64,
        small: u16,
        on: bool,
        maybe: Option<i64>,
        list: Option<Vec<String>>,
        #[serde(deserialize_with = "string_or_list")]
        cmd: Option<Vec<String>>,
        inner: Inner,
        inners: BTreeMap<String, Inner>,
        pointers: BTreeMap<String, Option<Inner>>,
        texts: BTreeMap<String, String>,
        many: Vec<Inner>,
        #[serde(rename = "UTSMode")]
        uts_mode: String,
        size: [u32; 2],
    }

    #[derive(Clone, Debug, Default, PartialEq, Deserialize)]
    #[serde(rename_all = "PascalCase", default)]
    struct Inner {
        deep: String,
        number: u64,
    }

    fn decoded(json: &str) -> Outer {
        from_slice(json.as_bytes()).unwrap()
    }

    fn refused(json: &str) -> String {
        error_chain(&from_slice::<Outer>(json.as_bytes()).unwrap_err())
    }

    fn error_chain(error: &dyn std::error::Error) -> String {
        let mut text = error.to_string();
        let mut next = error.source();
        while let Some(cause) = next {
            text += ": ";
            text += &cause.to_string();
            next = cause.source();
        }
        text
    }

    #[test]
    fn keys_match_in_any_case() {
        let outer = decoded(r#"{"name":"a","COUNT":3,"utsmode":"host","inner":{"DEEP":"x"}}"#);
        assert_eq!((outer.name.as_str(), outer.count, outer.uts_mode.as_str()), ("a", 3, "host"));
        assert_eq!(outer.inner.deep, "x");
    }

    #[test]
    fn keys_of_maps_keep_their_case() {
        let outer = decoded(r#"{"Texts":{"a":"1","A":"2"}}"#);
        assert_eq!(
            outer.texts,
            BTreeMap::from([("A".into(), "2".into()), ("a".into(), "1".into())])
        );
    }

    #[test]
    fn dockers_spelling_wins_and_of_equals_the_last() {
        assert_eq!(decoded(r#"{"Name":"right","name":"wrong","NAME":"wrong"}"#).name, "right");
        assert_eq!(decoded(r#"{"Name":"first","Name":"last"}"#).name, "last");
        assert_eq!(decoded(r#"{"name":null,"NAME":"x"}"#).name, "x");
    }

    #[test]
    fn null_is_absent_at_every_depth() {
        let nulls = r#"{"Name":null,"Count":null,"On":null,"Maybe":null,"List":null,"Cmd":null,"Inner":null,
            "Inners":null,"Many":null,"Size":null}"#;
        assert_eq!(decoded(nulls), Outer::default());
        assert_eq!(decoded("null"), Outer::default());
        assert_eq!(decoded(r#"{"Inner":{"Deep":null}}"#), Outer::default());
    }

    #[test]
    fn null_in_a_map_or_list_is_the_zero_value() {
        let outer = decoded(
            r#"{"Inners":{"n":null},"Pointers":{"n":null},"Texts":{"t":null},"List":[null],"Many":[null]}"#,
        );
        assert_eq!(outer.inners["n"], Inner::default());
        assert_eq!(outer.pointers["n"], None);
        assert_eq!(outer.texts["t"], "");
        assert_eq!(outer.list, Some(vec![String::new()]));
        assert_eq!(outer.many, [Inner::default()]);
    }

    #[test]
    fn empty_and_null_lists_differ() {
        assert_eq!(decoded(r#"{"List":[]}"#).list, Some(vec![]));
        assert_eq!(decoded("{}").list, None);
    }

    #[test]
    fn unknown_keys_are_ignored() {
        assert_eq!(
            decoded(r#"{"Unknown":{"x":[1,{"y":2}]},"Inner":{"Other":1}}"#),
            Outer::default()
        );
    }

    #[test]
    fn a_command_may_be_one_text() {
        assert_eq!(decoded(r#"{"Cmd":"ls -l"}"#).cmd, Some(vec!["ls -l".to_owned()]));
        assert_eq!(
            decoded(r#"{"Cmd":["ls","-l"]}"#).cmd,
            Some(vec!["ls".to_owned(), "-l".to_owned()])
        );
        assert_eq!(decoded(r#"{"Cmd":[]}"#).cmd, Some(vec![]));
        assert_eq!(
            refused(r#"{"Cmd":7}"#),
            "invalid JSON: Cmd: invalid type: integer `7`, expected a string or a list of strings"
        );
        assert_eq!(
            refused(r#"{"Cmd":["a",7]}"#),
            "invalid JSON: Cmd[1]: invalid type: integer `7`, expected a string"
        );
    }

    #[test]
    fn arrays_of_fixed_size_are_filled_and_cut() {
        assert_eq!(decoded(r#"{"Size":[24]}"#).size, [24, 0]);
        assert_eq!(decoded(r#"{"Size":[24,80,7]}"#).size, [24, 80]);
        assert_eq!(decoded(r#"{"Size":[]}"#).size, [0, 0]);
    }

    #[test]
    fn wrong_types_are_refused_with_their_place() {
        for (json, expected) in [
            (r#"{"count":"5"}"#, "invalid JSON: Count: invalid type: string \"5\", expected i64"),
            (
                r#"{"Count":1.5}"#,
                "invalid JSON: Count: invalid type: floating point `1.5`, expected i64",
            ),
            (
                r#"{"Small":65536}"#,
                "invalid JSON: Small: invalid value: integer `65536`, expected u16",
            ),
            (
                r#"{"On":"yes"}"#,
                "invalid JSON: On: invalid type: string \"yes\", expected a boolean",
            ),
            (
                r#"{"Inner":[]}"#,
                "invalid JSON: Inner: invalid type: sequence, expected struct Inner",
            ),
            (
                r#"{"Inner":"x"}"#,
                "invalid JSON: Inner: invalid type: string \"x\", expected struct Inner",
            ),
            (
                r#"{"Inners":{"a.b":{"Number":-1}}}"#,
                "invalid JSON: Inners.a.b.Number: invalid value: integer `-1`, expected u64",
            ),
            (
                r#"{"Many":[{},{"Deep":1}]}"#,
                "invalid JSON: Many[1].Deep: invalid type: integer `1`, expected a string",
            ),
            ("[]", "invalid JSON: invalid type: sequence, expected struct Outer"),
            ("\"x\"", "invalid JSON: invalid type: string \"x\", expected struct Outer"),
        ] {
            assert_eq!(refused(json), expected, "{json}");
        }
    }

    #[test]
    fn what_is_no_json() {
        assert_eq!(refused(""), "invalid JSON: got EOF while reading request body");
        assert_eq!(refused(" \r\n"), "invalid JSON: got EOF while reading request body");
        assert_eq!(refused("{}{}"), "unexpected content after JSON");
        assert_eq!(refused("{} x"), "unexpected content after JSON");
        assert_eq!(refused("{"), "invalid JSON: EOF while parsing an object at line 1 column 1");
        assert!(refused("{'a':1}").starts_with("invalid JSON: key must be a string"));
    }

    #[test]
    fn blanks_around_are_fine() {
        assert_eq!(decoded(" {\"Name\":\"a\"}\n \n").name, "a");
    }

    #[test]
    fn what_no_client_sends_is_read_otherwise_than_by_go() {
        assert_eq!(decoded(r#"{"Name":"ours","name":"last"}"#).name, "ours");
        let inner = decoded(r#"{"Inner":{"Deep":"x"},"Inner":{"Number":1}}"#).inner;
        assert_eq!(inner, Inner { deep: String::new(), number: 1 });
        assert_eq!(decoded("{\"lin\u{17f}t\":[]}"), Outer::default());
        for json in [r#"{"Name":"\ud800"}"#, r#"{"Unknown":1e999}"#, r#"{"Count":-0}"#] {
            assert!(from_slice::<Outer>(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn invalid_utf8_is_replaced() {
        assert_eq!(from_slice::<Outer>(b"{\"Name\":\"a\xff\"}").unwrap().name, "a\u{fffd}");
    }

    #[test]
    fn deep_nesting_is_refused_not_fatal() {
        let deep = format!("{{\"Inner\":{}", "[".repeat(100_000));
        assert!(refused(&deep).starts_with("invalid JSON: recursion limit exceeded"));
    }

    #[test]
    fn fields_that_were_set() {
        let value = value(
            br#"{"name":"","COUNT":0,"small":7,"On":true,"Maybe":null,"List":[],"cmd":"x","inner":{"number":5,"deep":""},
                "Inners":{"k":{"Deep":"x"}},"Pointers":{},"Size":[0,0],"Unknown":1}"#,
        )
        .unwrap();
        let set = set_fields::<Outer>(&value);
        assert_eq!(set, ["Small", "On", "Cmd", "Inner.Number", "Inners"]);
    }

    #[test]
    fn any_known_key_counts() {
        let has = |json: &str| has_any_field::<Outer>(&serde_json::from_str(json).unwrap());
        assert!(has(r#"{"utsMODE":null}"#));
        assert!(!has(r#"{"Deep":1}"#) && !has("{}") && !has("null") && !has("[]"));
    }

    /// The same document with the names of its outermost fields in lower case; `None` if two of them become one.
    fn in_lower_case(value: &Value) -> Option<Value> {
        let Value::Object(object) = value else { return Some(value.clone()) };
        let lower: serde_json::Map<_, _> =
            object.iter().map(|(key, value)| (key.to_ascii_lowercase(), value.clone())).collect();
        (lower.len() == object.len()).then_some(Value::Object(lower))
    }

    /// Random documents: nothing panics, and the case of a field's name makes no difference.
    #[test]
    fn random_documents() {
        const FRAGMENTS: &[&str] = &[
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "null",
            "true",
            "0",
            "-1",
            "1e9",
            "1e999",
            "18446744073709551616",
            "\"\"",
            "\"Name\"",
            "\"cmd\"",
            "\"INNER\"",
            "\"Inners\"",
            "\"\\ud800\"",
            "\"\\u0000\"",
            " ",
            "\"",
            "\u{7f}",
            "é",
            "{\"Name\":",
            "{\"Inner\":{\"Number\":",
            "\"Size\":[1,",
            "}}",
        ];
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
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
            let Ok(value) = value(json.as_bytes()) else { continue };
            let decoded = from_value::<Outer>(&value);
            understood += u32::from(decoded.is_ok());
            if let Some(lower) = in_lower_case(&value) {
                assert_eq!(from_value::<Outer>(&lower).ok(), decoded.ok(), "{json}");
                assert_eq!(set_fields::<Outer>(&lower), set_fields::<Outer>(&value), "{json}");
            }
        }
        assert!(understood > 50, "the fragments should often make sense, {understood} did");
    }
}
