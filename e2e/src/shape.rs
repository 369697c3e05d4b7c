//! The shape of a JSON document: which keys, which types, what is null and what is empty, and nothing of the values.
//!
//! Clients written in typed languages break on shapes: a key that is missing, a `null` where they expect a list. Two
//! daemons that do the same thing give documents of one shape, however their ids, times and addresses differ.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value, json};

/// The shape of a value, as JSON: objects keep their keys, a scalar is its type's name, a list is the shapes that its
/// elements have. Keys that are ids are all one.
#[must_use]
pub fn of(value: &Value) -> Value {
    match value {
        Value::Null => json!("null"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("string"),
        Value::Array(elements) => {
            let mut shapes: Vec<Value> = Vec::new();
            for shape in elements.iter().map(of) {
                if !shapes.contains(&shape) {
                    shapes.push(shape);
                }
            }
            shapes.sort_by_key(ToString::to_string);
            Value::Array(shapes)
        }
        Value::Object(fields) => {
            let fields: BTreeMap<String, Value> =
                fields.iter().map(|(key, value)| (general(key), of(value))).collect();
            Value::Object(fields.into_iter().collect::<Map<_, _>>())
        }
    }
}

/// A key that is data of one run stands for all such.
fn general(key: &str) -> String {
    let is_id = key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id { "<id>".to_owned() } else { key.to_owned() }
}

/// One place where two shapes differ.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// Keys from the top, joined by dots; `[]` is any element of a list.
    pub path: String,
    /// The shape that was expected; `absent` if there is no such key.
    pub expected: String,
    /// The shape that was found.
    pub found: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, expected, found } = self;
        write!(f, "{path}: {found} instead of {expected}")
    }
}

/// Everything in which `found` is not as `expected`.
#[must_use]
pub fn differences(expected: &Value, found: &Value) -> Vec<Difference> {
    let mut all = Vec::new();
    compare("", expected, found, &mut all);
    all
}

fn compare(path: &str, expected: &Value, found: &Value, all: &mut Vec<Difference>) {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            for key in
                expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)))
            {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match (expected.get(key), found.get(key)) {
                    (Some(expected), Some(found)) => compare(&path, expected, found, all),
                    (expected, found) => push(path, expected, found, all),
                }
            }
        }
        (Value::Array(expected), Value::Array(found))
            if expected.len() == 1 && found.len() == 1 =>
        {
            compare(&format!("{path}[]"), &expected[0], &found[0], all);
        }
        (expected, found) if expected == found => {}
        (expected, found) => push(path.to_owned(), Some(expected), Some(found), all),
    }
}

fn push(path: String, expected: Option<&Value>, found: Option<&Value>, all: &mut Vec<Difference>) {
    let text = |shape: Option<&Value>| match shape {
        None => "absent".to_owned(),
        Some(Value::String(kind)) => kind.clone(),
        Some(other) => other.to_string(),
    };
    all.push(Difference { path, expected: text(expected), found: text(found) });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(expected: &Value, found: &Value) -> Vec<String> {
        let (expected, found) = (of(expected), of(found));
        differences(&expected, &found).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn values_do_not_matter() {
        let expected = json!({"Id": "a", "N": 1, "L": [{"x": 1}, {"x": 2}], "O": {}});
        let found = json!({"O": {}, "L": [{"x": 7}], "N": 2.5, "Id": ""});
        assert_eq!(seen(&expected, &found), Vec::<String>::new());
    }

    #[test]
    fn keys_types_null_and_empty_do() {
        let expected = json!({"a": {"b": null, "c": []}, "d": [{"e": ""}], "gone": 1});
        let found = json!({"a": {"b": [], "c": null}, "d": [{"e": 1}], "new": true});
        let all = seen(&expected, &found);
        assert_eq!(
            all,
            [
                "a.b: [] instead of null",
                "a.c: null instead of []",
                "d[].e: number instead of string",
                "gone: absent instead of number",
                "new: bool instead of absent",
            ]
        );
    }

    #[test]
    fn ids_as_keys_are_one() {
        let (a, b) = ("a".repeat(64), "b".repeat(64));
        assert_eq!(of(&json!({a: 1, b: 2})), json!({"<id>": "number"}));
    }
}
