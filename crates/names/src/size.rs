//! Sizes in bytes as people write and read them.
//!
//! Source: docker/go-units `size.go`.

use std::error::Error;
use std::fmt;

/// Letters of the units above a byte, smallest first.
const PREFIXES: &[u8; 5] = b"kmgtp";
const DECIMAL_UNITS: [&str; 9] = ["B", "kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"];
const BINARY_UNITS: [&str; 9] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"];

/// A number of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ByteSize(u64);

impl ByteSize {
    /// This many bytes.
    #[must_use]
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        self.0
    }

    /// Reads a size whose units are powers of 1024, whatever their spelling: `64m`, `1.5 GiB`, `512kb`, `7`.
    ///
    /// # Errors
    /// [`InvalidSize`] when the text is not a number with a unit of at most peta.
    pub fn parse_binary(given: &str) -> Result<Self, InvalidSize> {
        parse(given, 1024.0)
    }

    /// Reads a size whose units are powers of 1000: `1kB` is 1000 bytes.
    ///
    /// # Errors
    /// [`InvalidSize`] when the text is not a number with a unit of at most peta.
    pub fn parse_decimal(given: &str) -> Result<Self, InvalidSize> {
        parse(given, 1000.0)
    }

    /// Powers of 1000 with four significant digits: `1.5kB`, `13.26MB`. Docker's way for images and progress.
    #[must_use]
    pub fn decimal(self) -> String {
        human(self.0, 1000.0, &DECIMAL_UNITS, 4)
    }

    /// Powers of 1000 with three significant digits: how `docker system df` and prune results are told.
    #[must_use]
    pub fn decimal_short(self) -> String {
        human(self.0, 1000.0, &DECIMAL_UNITS, 3)
    }

    /// Powers of 1024 with four significant digits: `1.5KiB`. Docker's way for memory.
    #[must_use]
    pub fn binary(self) -> String {
        human(self.0, 1024.0, &BINARY_UNITS, 4)
    }
}

/// Shows the plain number of bytes.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A text that is not a size. Prints Docker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidSize {
    /// There is no number, a negative one, or one beyond 2^63.
    Number(String),
    /// What follows the number is not a unit.
    Suffix(String),
}

impl fmt::Display for InvalidSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(given) => write!(f, "invalid size: '{given}'"),
            Self::Suffix(suffix) => write!(f, "invalid suffix: '{suffix}'"),
        }
    }
}

impl Error for InvalidSize {}

/// Reads a number, perhaps one blank, and a unit such as `k`, `kb` or `kib` in any case.
fn parse(given: &str, step: f64) -> Result<ByteSize, InvalidSize> {
    let bad_number = || InvalidSize::Number(given.to_owned());
    let last =
        given.rfind(|c: char| c.is_ascii_digit() || c == '.' || c == ' ').ok_or_else(bad_number)?;
    let (head, suffix) = given.split_at(last + 1);
    let number = head.strip_suffix(' ').unwrap_or(head);
    // Rust also reads "inf" and "nan"; neither starts or ends like a size.
    let plain = number
        .bytes()
        .all(|byte| byte.is_ascii_digit() || matches!(byte, b'.' | b'e' | b'E' | b'+' | b'-'));
    let number: f64 = number.parse().ok().filter(|_| plain).ok_or_else(bad_number)?;
    let bytes = number * multiplier(suffix, step)?;
    whole_bytes(bytes).map(ByteSize).ok_or_else(bad_number)
}

/// How many bytes the unit `suffix` stands for.
fn multiplier(suffix: &str, step: f64) -> Result<f64, InvalidSize> {
    let lower = suffix.to_ascii_lowercase();
    let bad_suffix = || InvalidSize::Suffix(lower.clone());
    let (unit, rest) = match lower.as_bytes() {
        [] | [b'b'] => return Ok(1.0),
        [unit, rest @ ..] => (unit, rest),
    };
    let power = PREFIXES.iter().position(|prefix| prefix == unit).ok_or_else(bad_suffix)?;
    if !matches!(rest, b"" | b"b" | b"ib") {
        return Err(bad_suffix());
    }
    Ok((0..=power).map(|_| step).product())
}

/// Cuts the fraction off. Docker's sizes are Go's `int64`, so larger ones are refused.
fn whole_bytes(bytes: f64) -> Option<u64> {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0; // 2^63
    if !(0.0..LIMIT).contains(&bytes) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 <= bytes < 2^63; cutting is meant"
    )]
    Some(bytes as u64)
}

/// The largest unit that leaves a number of at least 1, with `digits` significant digits (C's `%.{digits}g`).
fn human(bytes: u64, step: f64, units: &[&str], digits: usize) -> String {
    #[expect(clippy::cast_precision_loss, reason = "at most four digits are shown")]
    let mut rest = bytes as f64;
    let mut unit = 0;
    while rest >= step && unit + 1 < units.len() {
        rest /= step;
        unit += 1;
    }
    format!("{}{}", significant(rest, digits), units[unit])
}

/// C's `%.{digits}g` for numbers that are 0 or at least 1: so many significant digits, no trailing zeros,
/// and an exponent where the digits do not reach the decimal point.
fn significant(value: f64, digits: usize) -> String {
    let scientific = format!("{value:.*e}", digits - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: usize = exponent.parse().unwrap_or(0);
    if exponent >= digits {
        return format!("{}e+{exponent:02}", without_trailing_zeros(mantissa));
    }
    without_trailing_zeros(&format!("{value:.*}", digits - 1 - exponent)).to_owned()
}

/// Drops zeros after the decimal point, and the point itself when nothing is left behind it.
fn without_trailing_zeros(number: &str) -> &str {
    if !number.contains('.') {
        return number;
    }
    number.trim_end_matches('0').trim_end_matches('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_powers_of_1024_for_memory() {
        for (given, bytes) in [
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32KB", 32 << 10),
            ("32 KiB", 32 << 10),
            ("32Mb", 32 << 20),
            ("1.5g", 3 << 29),
            ("2T", 2 << 40),
            ("3pib", 3 << 50),
            (".5k", 512),
            ("1e3", 1000),
        ] {
            assert_eq!(ByteSize::parse_binary(given).map(ByteSize::bytes), Ok(bytes), "{given}");
        }
    }

    #[test]
    fn units_are_powers_of_1000_for_storage() {
        assert_eq!(ByteSize::parse_decimal("32kb").map(ByteSize::bytes), Ok(32_000));
        assert_eq!(ByteSize::parse_decimal("32.5 GB").map(ByteSize::bytes), Ok(32_500_000_000));
    }

    #[test]
    fn bad_sizes_are_refused_in_dockers_words() {
        for (given, text) in [
            ("", "invalid size: ''"),
            ("hello", "invalid size: 'hello'"),
            ("-32", "invalid size: '-32'"),
            (" 32", "invalid size: ' 32'"),
            ("32  kb", "invalid size: '32  kb'"),
            ("inf0", "invalid size: 'inf0'"),
            ("10000p", "invalid size: '10000p'"),
            ("32mbb", "invalid suffix: 'mbb'"),
            ("32bb", "invalid suffix: 'bb'"),
            ("32exa", "invalid suffix: 'exa'"),
            ("32ä", "invalid suffix: 'ä'"),
        ] {
            assert_eq!(ByteSize::parse_binary(given).unwrap_err().to_string(), text, "{given}");
        }
    }

    #[test]
    fn people_see_four_significant_digits() {
        for (bytes, decimal, binary) in [
            (0, "0B", "0B"),
            (999, "999B", "999B"),
            (1000, "1kB", "1000B"),
            (1024, "1.024kB", "1KiB"),
            (1_500_000, "1.5MB", "1.431MiB"),
            (13_257_000, "13.26MB", "12.64MiB"),
            (1_048_575, "1.049MB", "1024KiB"),
            (u64::MAX, "18.45EB", "16EiB"),
        ] {
            assert_eq!(ByteSize::new(bytes).decimal(), decimal);
            assert_eq!(ByteSize::new(bytes).binary(), binary);
        }
    }

    #[test]
    fn summaries_show_three() {
        assert_eq!(ByteSize::new(13_257_000).decimal_short(), "13.3MB");
        assert_eq!(ByteSize::new(999_999).decimal_short(), "1e+03kB");
    }
}
