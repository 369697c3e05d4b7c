//! JSON strings exactly as Go's `encoding/json` writes them, which is what readers of nerdctl's and Docker's logs know.

/// Bytes that stand for themselves: printable ASCII but `"`, `\` and the three that Go escapes for HTML, and the bytes of
/// longer characters but 0xE2, with which U+2028 and U+2029 begin.
const PLAIN: [bool; 256] = plain();

const fn plain() -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = 0x20;
    while byte < 256 {
        table[byte] = !matches!(byte, 0x22 | 0x26 | 0x3c | 0x3e | 0x5c | 0xe2);
        byte += 1;
    }
    table
}

/// Bytes that are looked at together, so that the compiler can use vector instructions.
const CHUNK: usize = 16;

/// Append `bytes` as the inside of a JSON string. Every byte that is not part of valid UTF-8 becomes `\ufffd`.
pub(crate) fn escape(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    loop {
        let (plain, special) = rest.split_at(plain_ascii(rest));
        out.extend_from_slice(plain);
        match special.first() {
            None => return,
            Some(byte) if byte.is_ascii() => rest = &special[escape_one(out, special)..],
            Some(_) => return escape_text(out, special),
        }
    }
}

/// How many bytes from the start are ASCII and stand for themselves.
fn plain_ascii(bytes: &[u8]) -> usize {
    let is_special = |byte: &u8| {
        (*byte < 0x20) | (*byte >= 0x80) | matches!(byte, b'"' | b'&' | b'<' | b'>' | b'\\')
    };
    let mut at = 0;
    for chunk in bytes.chunks_exact(CHUNK) {
        if chunk.iter().fold(false, |any, byte| any | is_special(byte)) {
            break;
        }
        at += CHUNK;
    }
    bytes[at..].iter().position(is_special).map_or(bytes.len(), |special| at + special)
}

fn escape_text(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while !rest.is_empty() {
        match std::str::from_utf8(rest) {
            Ok(_) => {
                escape_valid(out, rest);
                return;
            }
            Err(error) => {
                let (valid, bad) = rest.split_at(error.valid_up_to());
                escape_valid(out, valid);
                let length = error.error_len().unwrap_or(bad.len());
                for _ in 0..length {
                    out.extend_from_slice(b"\\ufffd");
                }
                rest = &bad[length..];
            }
        }
    }
}

fn escape_valid(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| !PLAIN[usize::from(*byte)]) {
        let (before, special) = rest.split_at(at);
        out.extend_from_slice(before);
        rest = &special[escape_one(out, special)..];
    }
    out.extend_from_slice(rest);
}

/// Append what stands for the first character of `text`; returns how many bytes it has.
fn escape_one(out: &mut Vec<u8>, text: &[u8]) -> usize {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    match text {
        [0xe2, 0x80, 0xa8, ..] => out.extend_from_slice(b"\\u2028"),
        [0xe2, 0x80, 0xa9, ..] => out.extend_from_slice(b"\\u2029"),
        [0xe2, ..] => {
            out.push(0xe2);
            return 1;
        }
        [byte, ..] => {
            let short = match byte {
                b'"' => b'"',
                b'\\' => b'\\',
                b'\n' => b'n',
                b'\r' => b'r',
                b'\t' => b't',
                0x08 => b'b',
                0x0c => b'f',
                _ => 0,
            };
            if short == 0 {
                out.extend_from_slice(b"\\u00");
                out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
            } else {
                out.extend([b'\\', short]);
            }
            return 1;
        }
        [] => return 0,
    }
    3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(&mut out, bytes);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn as_go_does_it() {
        // Left: input; right: what json.Marshal of Go 1.26 prints for it, without the quotes.
        for (input, expected) in [
            (&b"plain text"[..], "plain text"),
            (b"a\"b\\c/d", r#"a\"b\\c/d"#),
            (b"<a href='x'>&</a>\n", r"\u003ca href='x'\u003e\u0026\u003c/a\u003e\n"),
            (b"\t\r\n\x08\x0c\x00\x1b[0m\x7f", "\\t\\r\\n\\b\\f\\u0000\\u001b[0m\x7f"),
            ("grüße € 😀 ‐".as_bytes(), "grüße € 😀 ‐"),
            ("\u{2028}x\u{2029}\u{2027}".as_bytes(), "\\u2028x\\u2029\u{2027}"),
            (b"\xff", r"\ufffd"),
            (b"a\xe2\x82b", r"a\ufffd\ufffdb"),
            (b"a\xe2\x82", r"a\ufffd\ufffd"),
            (b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd"),
            (b"\xc0\xaf\xf8\x88", r"\ufffd\ufffd\ufffd\ufffd"),
            (b"", ""),
        ] {
            assert_eq!(escaped(input), expected, "{input:?}");
        }
    }

    #[test]
    fn every_json_reader_reads_it_back() {
        let text: String = (0..0x3000).filter_map(char::from_u32).collect();
        let json = format!("\"{}\"", escaped(text.as_bytes()));
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
    }
}
