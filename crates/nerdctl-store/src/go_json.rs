//! JSON as Go's `encoding/json` prints it.
//!
//! nerdctl compares some of its files and labels as text, and users look at them, so ours should not differ: compact,
//! and with `<`, `>`, `&`, U+2028 and U+2029 escaped. Struct fields come in the order of declaration and maps must be
//! sorted, which `BTreeMap` and `serde_json::Map` are.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, PrettyFormatter, Serializer};

use crate::error::{Result, StoreError};

/// `json.Marshal`: no white space. `what` names the document if it cannot be encoded.
///
/// # Errors
/// [`StoreError::Encode`], for maps whose keys are not strings.
pub fn to_string<T: Serialize + ?Sized>(what: &'static str, value: &T) -> Result<String> {
    encode(what, value, CompactFormatter)
}

/// `json.MarshalIndent(v, "", indent)`. `what` names the document if it cannot be encoded.
///
/// # Errors
/// [`StoreError::Encode`], for maps whose keys are not strings.
pub fn to_string_indented<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
    indent: &str,
) -> Result<String> {
    encode(what, value, PrettyFormatter::with_indent(indent.as_bytes()))
}

fn encode<T: Serialize + ?Sized>(
    what: &'static str,
    value: &T,
    layout: impl Formatter,
) -> Result<String> {
    let mut bytes = Vec::new();
    value
        .serialize(&mut Serializer::with_formatter(&mut bytes, GoEscapes(layout)))
        .map_err(|source| StoreError::Encode { what, source })?;
    // The serializer writes UTF-8 only.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Another layout, with Go's additional escapes in strings.
struct GoEscapes<F>(F);

impl<F: Formatter> Formatter for GoEscapes<F> {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, special) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let Some(c) = special.chars().next() else { break };
            write!(writer, "\\u{:04x}", u32::from(c))?;
            rest = &special[c.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        self.0.write_char_escape(writer, escape)
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn strings_are_escaped_as_go_does() {
        let text = "a<b>&\u{2028}\u{2029}\"\\\n\té";
        assert_eq!(
            to_string("text", text).unwrap(),
            r#""a\u003cb\u003e\u0026\u2028\u2029\"\\\n\té""#
        );
    }

    #[test]
    fn keys_are_escaped_too() {
        let map = BTreeMap::from([("a&b", 1)]);
        assert_eq!(to_string("map", &map).unwrap(), r#"{"a\u0026b":1}"#);
    }

    #[test]
    fn indentation_is_that_of_marshal_indent() {
        let value: BTreeMap<&str, Vec<u8>> = BTreeMap::from([("a", vec![1, 2]), ("b", vec![])]);
        assert_eq!(
            to_string_indented("value", &value, "    ").unwrap(),
            "{\n    \"a\": [\n        1,\n        2\n    ],\n    \"b\": []\n}"
        );
    }
}
