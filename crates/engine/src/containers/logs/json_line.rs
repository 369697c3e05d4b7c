//! One line of a json-file: `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.123456789Z"}`.
//!
//! nerdctl and this project always write the keys in that order, and then a line is read in one pass. Docker adds `attrs`,
//! and anybody may have edited the file: every other shape goes to a JSON parser.

use std::borrow::Cow;

use io_monitor::frames::Stream;
use jiff::Timestamp;
use serde::Deserialize;

use super::stamp::Stamps;

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    #[serde(default, borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// Append the text of `line` to `text`. `None`, and `text` unchanged, if the line is no entry.
pub(super) fn parse(
    line: &[u8],
    text: &mut Vec<u8>,
    stamps: &mut Stamps,
) -> Option<(Stream, Timestamp)> {
    let start = text.len();
    if let Some(parsed) = parse_plain(line, text, stamps) {
        return Some(parsed);
    }
    text.truncate(start);
    let document: Document<'_> = serde_json::from_slice(line).ok()?;
    let time = stamps.parse(document.time.as_bytes())?;
    let stream = stream(document.stream.as_bytes())?;
    text.extend_from_slice(document.log.as_bytes());
    Some((stream, time))
}

fn parse_plain(
    line: &[u8],
    text: &mut Vec<u8>,
    stamps: &mut Stamps,
) -> Option<(Stream, Timestamp)> {
    let rest = unescape(line.strip_prefix(b"{\"log\":\"")?, text)?;
    let rest = rest.strip_prefix(b",\"stream\":\"")?;
    let (name, rest) = rest.split_at_checked(6)?;
    let time = rest.strip_prefix(b"\",\"time\":\"")?.strip_suffix(b"\"}")?;
    Some((stream(name)?, stamps.parse(time)?))
}

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
        let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?;
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
        let parsed = parse(line.as_bytes(), &mut text, &mut Stamps::default());
        let added = String::from_utf8(text.split_off(6)).unwrap();
        assert!(parsed.is_some() || added.is_empty());
        parsed.map(|(stream, time)| (added, stream, time.to_string()))
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
}
