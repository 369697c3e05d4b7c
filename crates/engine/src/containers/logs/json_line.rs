//! One line of a json-file: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`.
//!
//! nerdctl, Docker and this project always write the keys in that order, perhaps with `"attrs":{…}` before the time, and
//! then a line is read in one pass. Anybody may have edited the file: every other shape goes to a JSON parser.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use io_monitor::frames::Stream;
use jiff::Timestamp;
use serde::Deserialize;

use super::Attributes;
use super::stamp::Stamps;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
    #[serde(default)]
    attrs: Option<BTreeMap<String, String>>,
}

/// The attributes of the last line that had some; those of the next are mostly the same.
#[derive(Debug, Default)]
pub(super) struct AttributeCache {
    json: Vec<u8>,
    parsed: Attributes,
}

impl AttributeCache {
    fn parse(&mut self, json: &[u8]) -> Option<Attributes> {
        if self.json != json {
            self.parsed = Arc::new(serde_json::from_slice(json).ok()?);
            self.json = json.to_vec();
        }
        Some(Arc::clone(&self.parsed))
    }
}

/// Append the text of `line` to `text`. `None`, and `text` unchanged, if the line is no entry.
pub(super) fn parse(
    line: &[u8],
    text: &mut Vec<u8>,
    stamps: &mut Stamps,
    cache: &mut AttributeCache,
) -> Option<(Stream, Timestamp, Option<Attributes>)> {
    let start = text.len();
    if let Some(parsed) = parse_plain(line, text, stamps, cache) {
        return Some(parsed);
    }
    text.truncate(start);
    let document: Document<'_> = serde_json::from_slice(line).ok()?;
    let time = stamps.parse(document.time.as_bytes())?;
    let stream = stream(document.stream.as_bytes())?;
    text.extend_from_slice(document.log.as_bytes());
    Some((stream, time, document.attrs.map(Arc::new)))
}

fn parse_plain(
    line: &[u8],
    text: &mut Vec<u8>,
    stamps: &mut Stamps,
    cache: &mut AttributeCache,
) -> Option<(Stream, Timestamp, Option<Attributes>)> {
    let rest = unescape(line.strip_prefix(b"{\"log\":\"")?, text)?;
    let rest = rest.strip_prefix(b",\"stream\":\"")?;
    let (name, rest) = rest.split_at_checked(6)?;
    let rest = rest.strip_prefix(b"\"")?;
    let (attributes, rest) = match rest.strip_prefix(b",\"attrs\":") {
        None => (None, rest),
        Some(rest) => {
            let (json, rest) = rest.split_at(memchr::memmem::rfind(rest, TIME)?);
            (Some(cache.parse(json)?), rest)
        }
    };
    let time = rest.strip_prefix(TIME)?.strip_suffix(b"\"}")?;
    Some((stream(name)?, stamps.parse(time)?, attributes))
}

/// What stands before the time.
const TIME: &[u8] = b",\"time\":\"";

fn stream(name: &[u8]) -> Option<Stream> {
    match name {
        b"stdout" => Some(Stream::Stdout),
        b"stderr" => Some(Stream::Stderr),
        _ => None,
    }
}

/// Append the string that begins at `json` to `text`; returns what follows its closing quote.
fn unescape<'a>(json: &'a [u8], text: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut rest = json;
    loop {
        let at = memchr::memchr2(b'"', b'\\', rest)?;
        text.extend_from_slice(&rest[..at]);
        if rest[at] == b'"' {
            return rest.get(at + 1..);
        }
        let (escape, after) = rest[at + 1..].split_first()?;
        rest = after;
        let byte = match escape {
            b'n' => b'\n',
            b't' => b'\t',
            b'r' => b'\r',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'"' | b'\\' | b'/' => *escape,
            b'u' => {
                let (character, after) = unicode(rest)?;
                text.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
                rest = after;
                continue;
            }
            _ => return None,
        };
        text.push(byte);
    }
}

/// The character after `\u`. Halves of a pair that stand alone are left to the parser.
fn unicode(json: &[u8]) -> Option<(char, &[u8])> {
    let (first, rest) = hex(json)?;
    if let Some(character) = char::from_u32(first) {
        return Some((character, rest));
    }
    let (second, rest) = hex(rest.strip_prefix(b"\\u")?)?;
    let is_pair = (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second);
    let character = is_pair.then(|| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))?;
    Some((char::from_u32(character)?, rest))
}

fn hex(json: &[u8]) -> Option<(u32, &[u8])> {
    let (digits, rest) = json.split_first_chunk::<4>()?;
    let mut value = 0;
    for digit in digits {
        value = value * 16 + char::from(*digit).to_digit(16)?;
    }
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Option<(String, Stream, String)> {
        let mut text = b"before".to_vec();
        let mut cache = AttributeCache::default();
        let parsed = parse(line.as_bytes(), &mut text, &mut Stamps::default(), &mut cache);
        let added = String::from_utf8(text.split_off(6)).unwrap();
        assert!(parsed.is_some() || added.is_empty());
        parsed.map(|(stream, time, _)| (added, stream, time.to_string()))
    }

    fn entry(text: &str, stream: Stream) -> Option<(String, Stream, String)> {
        Some((text.into(), stream, "2026-01-02T03:04:05.5Z".into()))
    }

    #[test]
    fn every_way_to_write_an_entry() {
        const TIME: &str = r#""time":"2026-01-02T03:04:05.5Z""#;
        for (line, expected) in [
            (
                format!(r#"{{"log":"hi\n","stream":"stdout",{TIME}}}"#),
                entry("hi\n", Stream::Stdout),
            ),
            (format!(r#"{{"log":"","stream":"stderr",{TIME}}}"#), entry("", Stream::Stderr)),
            (
                format!(
                    r#"{{"log":"\"\\\/\b\f\r\t\u003cé\ud83d\ude00\u0000\ufffd","stream":"stderr",{TIME}}}"#
                ),
                entry("\"\\/\u{8}\u{c}\r\t<é😀\0\u{fffd}", Stream::Stderr),
            ),
            // Docker with attributes, another order, spaces.
            (
                format!(r#"{{"log":"a\n","stream":"stdout","attrs":{{"k":"v"}},{TIME}}}"#),
                entry("a\n", Stream::Stdout),
            ),
            (format!(r#"{{ {TIME}, "stream":"stdout", "log":"b"}}"#), entry("b", Stream::Stdout)),
            // Go leaves out an empty log.
            (format!(r#"{{"stream":"stdout",{TIME}}}"#), entry("", Stream::Stdout)),
            // Not entries.
            (format!(r#"{{"log":"x","stream":"stdin",{TIME}}}"#), None),
            (r#"{"log":"x","stream":"","#.into(), None),
            (r#"{"log":"x","stream":"stdout","time":"now"}"#.into(), None),
            (r#"{"log":"x","stream":"stdout"}"#.into(), None),
            (format!(r#"{{"log":"x\q","stream":"stdout",{TIME}}}"#), None),
            (format!(r#"{{"log":"\ud83d","stream":"stdout",{TIME}}}"#), None),
            (String::new(), None),
            ("null".into(), None),
        ] {
            assert_eq!(parsed(&line), expected, "{line}");
        }
    }

    #[test]
    fn attributes_are_parsed_once_for_lines_that_share_them() {
        let mut cache = AttributeCache::default();
        let mut attributes = |attrs: &str| {
            let time = r#""time":"2026-01-02T03:04:05.5Z""#;
            let line = format!(r#"{{"log":"a\n","stream":"stdout","attrs":{attrs},{time}}}"#);
            parse(line.as_bytes(), &mut Vec::new(), &mut Stamps::default(), &mut cache).unwrap().2
        };
        let first = attributes(r#"{"a":"1","b":",\"time\":\""}"#).unwrap();
        assert_eq!(
            (first.len(), first["a"].as_str(), first["b"].as_str()),
            (2, "1", ",\"time\":\"")
        );
        let second = attributes(r#"{"a":"1","b":",\"time\":\""}"#).unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        assert_eq!(attributes(r#"{"a":"2"}"#).unwrap()["a"], "2");
        assert_eq!(attributes("null"), None);
    }
}
