//! Times of log entries: RFC 3339, a million a second, most of them of the same second as the one before.

use jiff::Timestamp;

/// Length of `2026-01-02T03:04:05`.
const SECOND: usize = 19;

/// Parses times; remembers the last second.
#[derive(Debug, Default)]
pub(super) struct Stamps {
    text: [u8; SECOND],
    second: i64,
}

impl Stamps {
    /// The time that `text` says, whatever its zone and number of digits.
    pub(super) fn parse(&mut self, text: &[u8]) -> Option<Timestamp> {
        self.parse_utc(text).or_else(|| std::str::from_utf8(text).ok()?.parse().ok())
    }

    /// `…Z` with at most nine digits after the point.
    fn parse_utc(&mut self, text: &[u8]) -> Option<Timestamp> {
        let second = text.first_chunk::<SECOND>()?;
        let fraction = text[SECOND..].strip_suffix(b"Z")?;
        if *second != self.text {
            let whole: Timestamp =
                format!("{}Z", std::str::from_utf8(second).ok()?).parse().ok()?;
            self.text = *second;
            self.second = whole.as_second();
        }
        Timestamp::new(self.second, nanoseconds(fraction)?).ok()
    }
}

fn nanoseconds(fraction: &[u8]) -> Option<i32> {
    let Some((point, digits)) = fraction.split_first() else {
        return Some(0);
    };
    if *point != b'.' || digits.is_empty() || digits.len() > 9 {
        return None;
    }
    let mut nanoseconds = 0;
    for place in 0..9 {
        let digit = digits.get(place).map_or(0, |digit| digit.wrapping_sub(b'0'));
        if digit > 9 {
            return None;
        }
        nanoseconds = nanoseconds * 10 + i32::from(digit);
    }
    Some(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_there_is() {
        let mut stamps = Stamps::default();
        for (text, expected) in [
            ("2026-01-02T03:04:05.123456789Z", Some("2026-01-02T03:04:05.123456789Z")),
            ("2026-01-02T03:04:05.12Z", Some("2026-01-02T03:04:05.12Z")),
            ("2026-01-02T03:04:05Z", Some("2026-01-02T03:04:05Z")),
            ("2026-01-02T03:04:06.5Z", Some("2026-01-02T03:04:06.5Z")),
            ("1969-12-31T23:59:59.5Z", Some("1969-12-31T23:59:59.5Z")),
            ("2016-10-06T02:17:09.669794202+02:00", Some("2016-10-06T00:17:09.669794202Z")),
            ("2026-01-02T03:04:05.Z", None),
            ("2026-01-02T03:04:05.1x3Z", None),
            ("2026-13-02T03:04:05Z", None),
            ("yesterday", None),
            ("", None),
        ] {
            let expected = expected.map(|text| text.parse::<Timestamp>().unwrap());
            assert_eq!(stamps.parse(text.as_bytes()), expected, "{text}");
        }
    }
}
