//! Detach keys: a sequence of keys that a terminal's user types to leave it (moby/term `ascii.go`, `proxy.go`).

/// The sequence; ctrl-p, ctrl-q unless somebody chose another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DetachKeys(Vec<u8>);

impl DetachKeys {
    const DEFAULT: [u8; 2] = [16, 17];

    /// Comma-separated: single characters, `ctrl-` with one of `@ a–z [ \ ] ^ _`, or `DEL`. Empty means the default.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self(Self::DEFAULT.to_vec()));
        }
        text.split(',').map(key).collect::<Option<Vec<u8>>>().map(Self)
    }

    /// The keys as the bytes that a terminal sends.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Look for the sequence in a stream.
    pub(crate) fn scanner(self) -> Scanner {
        Scanner { keys: self.0, matched: 0 }
    }
}

fn key(text: &str) -> Option<u8> {
    match text.as_bytes() {
        [single] => Some(*single),
        b"DEL" => Some(127),
        [b'c', b't', b'r', b'l', b'-', name] => match name {
            b'a'..=b'z' => Some(name - b'a' + 1),
            b'@' => Some(0),
            b'['..=b'_' => Some(name - b'[' + 27),
            _ => None,
        },
        _ => None,
    }
}

/// Passes bytes on until the keys come; keeps back what may be their beginning.
#[derive(Debug)]
pub(crate) struct Scanner {
    keys: Vec<u8>,
    matched: usize,
}

impl Scanner {
    /// Append to `out` what goes to the container. `true`: detach; the keys and what follows are not passed on.
    pub(crate) fn scan(&mut self, input: &[u8], out: &mut Vec<u8>) -> bool {
        for byte in input {
            if self.keys.get(self.matched) != Some(byte) {
                self.give_back(out, *byte);
                continue;
            }
            self.matched += 1;
            if self.matched == self.keys.len() {
                self.matched = 0;
                return true;
            }
        }
        false
    }

    /// `byte` does not continue the sequence: pass on as much of the kept-back beginning as cannot begin another one.
    fn give_back(&mut self, out: &mut Vec<u8>, byte: u8) {
        let mut kept = self.keys[..self.matched].to_vec();
        kept.push(byte);
        let begins = (1..=kept.len())
            .find(|from| self.keys.starts_with(&kept[*from..]))
            .unwrap_or(kept.len());
        out.extend_from_slice(&kept[..begins]);
        self.matched = kept.len() - begins;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_of_a_key() {
        for (text, expected) in [
            ("", Some(&[16, 17][..])),
            ("ctrl-p,ctrl-q", Some(&[16, 17])),
            ("a", Some(b"a")),
            ("ctrl-@,ctrl-a,ctrl-z", Some(&[0, 1, 26])),
            ("ctrl-[,ctrl-\\,ctrl-],ctrl-^,ctrl-_,DEL", Some(&[27, 28, 29, 30, 31, 127])),
            ("x,ctrl-c", Some(b"x\x03")),
            ("ctrl-A", None),
            ("ctrl-", None),
            ("ctrl-1", None),
            ("ab", None),
            ("a,", None),
            ("ü", None),
        ] {
            assert_eq!(
                DetachKeys::parse(text).map(|keys| keys.0),
                expected.map(<[u8]>::to_vec),
                "{text}"
            );
        }
    }

    #[test]
    fn the_keys_are_found_however_the_input_is_cut() {
        for (keys, input, passed, detached) in [
            ("ctrl-p,ctrl-q", &b"ls\r\x10\x11never"[..], &b"ls\r"[..], true),
            ("ctrl-p,ctrl-q", b"\x10x\x10\x10\x11", b"\x10x\x10", true),
            ("ctrl-p,ctrl-q", b"\x11\x10", b"\x11", false),
            ("a,a,b", b"aaab", b"a", true),
            ("a,b,a,c", b"ababac", b"ab", true),
            ("x", b"abcx", b"abc", true),
            ("ctrl-p,ctrl-q", b"plain", b"plain", false),
        ] {
            for step in 1..=input.len() {
                let mut scanner = DetachKeys::parse(keys).unwrap().scanner();
                let mut out = Vec::new();
                let found = input.chunks(step).any(|part| scanner.scan(part, &mut out));
                assert_eq!((&out[..], found), (passed, detached), "{keys} in {input:?} by {step}");
            }
        }
    }
}
