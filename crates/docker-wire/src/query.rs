//! Paths and query strings: percent-decoding, repeated keys, and Docker's booleans and integers.
//!
//! Source: Go `net/url`; moby `daemon/server/httputils/form.go`.

use std::fmt::Write as _;

/// The parameters of a request, in the order in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the part of a URL after the question mark.
    ///
    /// # Errors
    /// [`InvalidQuery`] on a malformed escape or on a semicolon between parameters.
    pub fn parse(raw: &str) -> Result<Self, InvalidQuery> {
        raw.split('&')
            .filter(|part| !part.is_empty())
            .map(pair)
            .collect::<Result<_, _>>()
            .map(|pairs| Self { pairs })
    }

    /// Adds the parameters of a body of type `application/x-www-form-urlencoded`. They come first, so
    /// [`get`](Self::get) prefers them, as Go does.
    ///
    /// # Errors
    /// [`InvalidQuery`] as for [`parse`](Self::parse).
    pub fn with_form_body(self, body: &[u8]) -> Result<Self, InvalidQuery> {
        let mut form = Self::parse(&String::from_utf8_lossy(body))?;
        form.pairs.extend(self.pairs);
        Ok(form)
    }

    /// The first value of `name`; `None` when the parameter is missing. An empty value is a value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    /// The first value of `name`, or an empty text: for parameters where missing and empty mean the same.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// Every value of `name`, in order.
    pub fn all<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a str> {
        self.pairs.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// Whether the parameter was given, be it empty.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Docker's boolean: everything is true but a missing or blank value, `0`, `no`, `false` and `none`.
    #[must_use]
    pub fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// Docker's boolean, with another meaning than false for a missing parameter.
    #[must_use]
    pub fn flag_or(&self, name: &str, missing: bool) -> bool {
        self.get(name).map_or(missing, |value| {
            !matches!(value.trim().to_lowercase().as_str(), "" | "0" | "no" | "false" | "none")
        })
    }

    /// Go's strict boolean, as `verbose` of network inspect takes it; `None` when missing or empty.
    ///
    /// # Errors
    /// [`InvalidNumber`] unless the value is one of Go's twelve spellings.
    pub fn strict_flag(&self, name: &str) -> Result<Option<bool>, InvalidNumber> {
        match self.text(name) {
            "" => Ok(None),
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Some(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Some(false)),
            other => Err(InvalidNumber {
                parser: "ParseBool",
                given: other.to_owned(),
                reason: NumberProblem::Syntax,
            }),
        }
    }

    /// A whole number; `None` when missing or empty.
    ///
    /// # Errors
    /// [`InvalidNumber`] when the value is not a decimal number of 64 bits.
    pub fn integer(&self, name: &str) -> Result<Option<i64>, InvalidNumber> {
        let given = self.text(name);
        if given.is_empty() {
            return Ok(None);
        }
        parse_i64(given).map(Some).map_err(|reason| InvalidNumber {
            parser: "Atoi",
            given: given.to_owned(),
            reason,
        })
    }

    /// A whole number; 0 when missing, empty or malformed. For the parameters of builds.
    #[must_use]
    pub fn integer_or_zero(&self, name: &str) -> i64 {
        self.integer(name).ok().flatten().unwrap_or_default()
    }

    /// A number of 32 bits that must be there, such as the height of a terminal.
    ///
    /// # Errors
    /// What is wrong with it, without the value: callers put the value before it, as in
    /// `invalid resize height "x": invalid syntax`.
    pub fn required_u32(&self, name: &str) -> Result<u32, NumberProblem> {
        let given = self.text(name);
        let digits = given.strip_prefix('-').unwrap_or(given);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NumberProblem::Syntax);
        }
        given.parse().map_err(|_| NumberProblem::Range)
    }
}

/// One parameter: `key=value`, or `key` alone for an empty value.
fn pair(part: &str) -> Result<(String, String), InvalidQuery> {
    if part.contains(';') {
        return Err(InvalidQuery::Semicolon);
    }
    let (key, value) = part.split_once('=').unwrap_or((part, ""));
    Ok((decode(key, Plus::IsSpace)?, decode(value, Plus::IsSpace)?))
}

/// Decodes the path of a URL: `library%2Fnginx` is `library/nginx`. A plus sign stays one.
///
/// # Errors
/// [`InvalidQuery::Escape`] on a percent sign without two hex digits.
pub fn decode_path(raw: &str) -> Result<String, InvalidQuery> {
    decode(raw, Plus::IsPlus)
}

/// Encodes a text so that it may stand in a query: letters, digits and `-_.~` stay, a blank becomes `+`.
///
/// Docker writes the attributes of log lines this way (Go's `url.QueryEscape`).
#[must_use]
pub fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            // Writing to a String cannot fail.
            _ => drop(write!(encoded, "%{byte:02X}")),
        }
    }
    encoded
}

#[derive(Clone, Copy, PartialEq)]
enum Plus {
    IsSpace,
    IsPlus,
}

/// Bytes that are no UTF-8 become U+FFFD.
fn decode(raw: &str, plus: Plus) -> Result<String, InvalidQuery> {
    let mut bytes = Vec::with_capacity(raw.len());
    let mut rest = raw.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match (first, tail) {
            (b'%', [high, low, after @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                bytes.push(hex_digit(*high) << 4 | hex_digit(*low));
                rest = after;
            }
            (b'%', _) => {
                let bad = &tail[..tail.len().min(2)];
                return Err(InvalidQuery::Escape(format!("%{}", String::from_utf8_lossy(bad))));
            }
            (b'+', _) if plus == Plus::IsSpace => bytes.push(b' '),
            _ => bytes.push(*first),
        }
    }
    Ok(String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

/// The value of a byte that is a hex digit.
fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Go's `strconv.ParseInt` in base 10.
pub(crate) fn parse_i64(given: &str) -> Result<i64, NumberProblem> {
    let digits = given.strip_prefix(['-', '+']).unwrap_or(given);
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(NumberProblem::Syntax);
    }
    given.parse().map_err(|_| NumberProblem::Range)
}

/// A query string that cannot be read. Prints Go's messages, which Docker passes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidQuery {
    /// A percent sign without two hex digits after it. Holds the sign and what follows.
    #[error("invalid URL escape {0:?}")]
    Escape(String),
    /// A semicolon, which separated parameters long ago.
    #[error("invalid semicolon separator in query")]
    Semicolon,
}

/// What is wrong with a number, in Go's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NumberProblem {
    /// It is not a number.
    #[error("invalid syntax")]
    Syntax,
    /// It is negative or too large for its type.
    #[error("value out of range")]
    Range,
}

/// A parameter that is not what Go's `strconv` wants. Prints Go's message, which Docker passes on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("strconv.{parser}: parsing {given:?}")]
pub struct InvalidNumber {
    /// The function of Go that would have refused it.
    parser: &'static str,
    /// The value.
    given: String,
    #[source]
    reason: NumberProblem,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(raw: &str) -> Query {
        Query::parse(raw).unwrap()
    }

    #[test]
    fn escapes_and_plus_signs() {
        let query = query("name=a%2Fb+c%2B&%C3%A4=%ff&empty=&alone&&x=1=2");
        assert_eq!(query.get("name"), Some("a/b c+"));
        assert_eq!(query.get("ä"), Some("\u{fffd}"));
        assert_eq!(
            (query.get("empty"), query.get("alone"), query.get("missing")),
            (Some(""), Some(""), None)
        );
        assert_eq!(query.get("x"), Some("1=2"));
        assert_eq!(decode_path("/library%2Fnginx%3A1+2").as_deref(), Ok("/library/nginx:1+2"));
    }

    #[test]
    fn what_cannot_be_decoded() {
        for (raw, expected) in [
            ("a=%zz", "invalid URL escape \"%zz\""),
            ("a=%1", "invalid URL escape \"%1\""),
            ("a=%", "invalid URL escape \"%\""),
            ("%é=1", "invalid URL escape \"%é\""),
            ("a=1;b=2", "invalid semicolon separator in query"),
        ] {
            assert_eq!(Query::parse(raw).unwrap_err().to_string(), expected, "{raw}");
        }
        assert!(decode_path("%2").is_err());
    }

    #[test]
    fn repeated_keys_keep_their_order() {
        let query = query("t=b&x=&t=a");
        assert_eq!(query.all("t").collect::<Vec<_>>(), ["b", "a"]);
        assert_eq!(query.get("t"), Some("b"));
    }

    #[test]
    fn forms_come_before_the_query() {
        let query = query("a=url&b=url").with_form_body(b"a=form").unwrap();
        assert_eq!((query.get("a"), query.get("b")), (Some("form"), Some("url")));
    }

    #[test]
    fn anything_is_true_but_a_few_words() {
        for no in ["f=", "f", "f=0", "f=no", "f=False", "f=NONE", "f=+none+", "x=1"] {
            assert!(!query(no).flag("f"), "{no}");
        }
        for yes in ["f=1", "f=True", "f=yes", "f=t", "f=nope", "f=2", "f=00"] {
            assert!(query(yes).flag("f"), "{yes}");
        }
        assert!(query("").flag_or("stream", true));
        assert!(!query("stream=0").flag_or("stream", true));
        assert!(!query("stream=").flag_or("stream", true), "given but empty is false");
    }

    #[test]
    fn strict_booleans() {
        assert_eq!(query("v=T").strict_flag("v"), Ok(Some(true)));
        assert_eq!(query("v=false").strict_flag("v"), Ok(Some(false)));
        assert_eq!(query("").strict_flag("v"), Ok(None));
        assert_eq!(
            query("v=yes").strict_flag("v").unwrap_err().to_string(),
            "strconv.ParseBool: parsing \"yes\""
        );
    }

    #[test]
    fn integers() {
        assert_eq!(query("t=-1").integer("t"), Ok(Some(-1)));
        assert_eq!(query("t=").integer("t"), Ok(None));
        let error = query("t=1.5").integer("t").unwrap_err();
        assert_eq!(error.to_string(), "strconv.Atoi: parsing \"1.5\"");
        assert_eq!(error.reason.to_string(), "invalid syntax");
        assert_eq!(
            query("t=9223372036854775808").integer("t").unwrap_err().reason,
            NumberProblem::Range
        );
        assert_eq!(query("t=x").integer_or_zero("t"), 0);
        assert_eq!(query("t=7").integer_or_zero("t"), 7);
    }

    #[test]
    fn terminal_sizes() {
        assert_eq!(query("h=24").required_u32("h"), Ok(24));
        for bad in ["", "h=", "h=x", "h=+1", "h=-", "h=1.0"] {
            assert_eq!(query(bad).required_u32("h"), Err(NumberProblem::Syntax), "{bad}");
        }
        for bad in ["h=-1", "h=4294967296", "h=99999999999999999999"] {
            assert_eq!(query(bad).required_u32("h"), Err(NumberProblem::Range), "{bad}");
        }
    }

    #[test]
    fn attributes_survive_encoding() {
        assert_eq!(encode("a b/ä~"), "a+b%2F%C3%A4~");
        let query = query(&format!("{}={}", encode("k=&"), encode("v %")));
        assert_eq!(query.get("k=&"), Some("v %"));
    }
}
