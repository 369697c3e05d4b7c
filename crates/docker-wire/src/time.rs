//! Times and durations as Go prints and reads them.
//!
//! Source: Go `time/format.go`; moby `daemon/internal/timestamp/timestamp.go`; docker/go-units `duration.go`.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, Zoned, civil, tz};

use crate::query::{NumberProblem, parse_i64};

/// Go's zero time: what Docker prints for a time that never was.
pub const ZERO: &str = "0001-01-01T00:00:00Z";

/// RFC 3339 in UTC with as many fractional digits as needed, at most nine: `2024-01-02T03:04:05.5Z`.
#[must_use]
pub fn rfc3339_nano(time: Timestamp) -> String {
    time.to_string()
}

/// As [`rfc3339_nano`], or [`ZERO`] for no time.
#[must_use]
pub fn rfc3339_nano_or_zero(time: Option<Timestamp>) -> String {
    time.map_or_else(|| ZERO.to_owned(), rfc3339_nano)
}

/// RFC 3339 in UTC without fraction: `2024-01-02T03:04:05Z`, the way volumes tell when they were made.
#[must_use]
pub fn rfc3339(time: Timestamp) -> String {
    format!("{time:.0}")
}

/// RFC 3339 in UTC with nine fractional digits, so that all stamps of a log have the same width.
#[must_use]
pub fn log_stamp(time: Timestamp) -> String {
    format!("{time:.9}")
}

/// A time as `seconds.nanoseconds` since 1970 that is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid timestamp {given:?}")]
pub struct InvalidTimestamp {
    /// The text that was given.
    given: String,
    #[source]
    reason: UnixProblem,
}

/// What is wrong with `seconds.nanoseconds`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnixProblem {
    /// The part before the point is not a number that fits.
    #[error("invalid seconds {given:?}")]
    Seconds {
        /// The part.
        given: String,
        /// Why not.
        #[source]
        reason: NumberProblem,
    },
    /// The part after the point has more than twenty digits.
    #[error("invalid nanoseconds: length {0} exceeds maximum {MAX_FRACTION_DIGITS}")]
    FractionLength(usize),
    /// The part after the point has something else than digits.
    #[error("invalid nanoseconds: invalid character {character:?} at position {position}")]
    FractionCharacter {
        /// What stands there.
        character: char,
        /// Where, from 0, in bytes.
        position: usize,
    },
}

/// dockerd's limit: as many digits as the largest number of 64 bits has.
const MAX_FRACTION_DIGITS: usize = 20;

/// Reads the `since` or `until` of logs and events: decimal seconds since 1970, perhaps with a fraction, of which
/// nine digits count. An empty text is no time.
///
/// # Errors
/// [`InvalidTimestamp`]; a year beyond 9999 is out of range.
pub fn parse_unix(given: &str) -> Result<Option<Timestamp>, InvalidTimestamp> {
    if given.is_empty() {
        return Ok(None);
    }
    unix(given).map(Some).map_err(|reason| InvalidTimestamp { given: given.to_owned(), reason })
}

fn unix(given: &str) -> Result<Timestamp, UnixProblem> {
    let (seconds, fraction) = given.split_once('.').unwrap_or((given, ""));
    let bad_seconds = |reason| UnixProblem::Seconds { given: seconds.to_owned(), reason };
    let whole = parse_i64(seconds).map_err(bad_seconds)?;
    let nanoseconds = nanoseconds(fraction)?;
    let time = Timestamp::from_second(whole).map_err(|_| bad_seconds(NumberProblem::Range))?;
    // Go adds the fraction to negative seconds too: -1.5 is half a second before 1970.
    time.checked_add(SignedDuration::from_nanos(nanoseconds))
        .map_err(|_| bad_seconds(NumberProblem::Range))
}

fn nanoseconds(fraction: &str) -> Result<i64, UnixProblem> {
    if fraction.len() > MAX_FRACTION_DIGITS {
        return Err(UnixProblem::FractionLength(fraction.len()));
    }
    if let Some((position, character)) = fraction.char_indices().find(|(_, c)| !c.is_ascii_digit())
    {
        return Err(UnixProblem::FractionCharacter { character, position });
    }
    let digits = fraction.bytes().chain(std::iter::repeat(b'0')).take(9);
    Ok(digits.fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0')))
}

/// A text that is neither a duration nor a time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTime {
    /// It is blank.
    #[error("failed to parse value as time or duration: value is empty")]
    Empty,
    /// It has dashes, so it should be a date, and is none.
    #[error("parsing time {0:?}: not an RFC 3339 time")]
    NotATime(String),
    /// It has no dashes, so it should be seconds, and is not.
    #[error("failed to parse value as time or duration")]
    NotSeconds(#[source] UnixProblem),
}

/// Reads the `until` of prunes: a Go duration before `now`, an RFC 3339 time or a shortened one, or seconds since
/// 1970. Times without a zone are in the zone of `now`.
///
/// # Errors
/// [`InvalidTime`].
pub fn parse(given: &str, now: &Zoned) -> Result<Timestamp, InvalidTime> {
    if given.trim().is_empty() {
        return Err(InvalidTime::Empty);
    }
    let is_duration = parse_go_duration(given).ok().filter(|_| given != "0");
    if let Some(time) = is_duration.and_then(|ago| now.timestamp().checked_sub(ago).ok()) {
        return Ok(time);
    }
    if let Some(time) = rfc3339_like(given, now.offset()) {
        return Ok(time);
    }
    if given.contains('-') {
        return Err(InvalidTime::NotATime(given.to_owned()));
    }
    unix(given).map_err(InvalidTime::NotSeconds)
}

/// `YYYY-MM-DD`, perhaps `Thh`, `:mm`, `:ss` and a fraction, perhaps a zone.
fn rfc3339_like(given: &str, local: tz::Offset) -> Option<Timestamp> {
    let date = given.get(..10)?;
    let after_date = &given[10..];
    let (clock, zone) = match after_date.strip_prefix('T') {
        Some(rest) => rest.split_at(rest.find(['Z', '+', '-']).unwrap_or(rest.len())),
        None => ("00", after_date),
    };
    let date = date_of(date)?;
    let time = clock_of(clock)?;
    offset_of(zone, local)?.to_timestamp(date.to_datetime(time)).ok()
}

fn date_of(text: &str) -> Option<civil::Date> {
    let (year, rest) = text.split_once('-')?;
    let (month, day) = rest.split_once('-')?;
    civil::Date::new(
        digits(year, 4)?,
        digits(month, 2)?.try_into().ok()?,
        digits(day, 2)?.try_into().ok()?,
    )
    .ok()
}

fn clock_of(text: &str) -> Option<civil::Time> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut parts =
        whole.split(':').map(|part| digits(part, 2).and_then(|number| i8::try_from(number).ok()));
    let hour = parts.next()??;
    let minute = parts.next().unwrap_or(Some(0))?;
    let second = parts.next().unwrap_or(Some(0))?;
    let fraction_is_misplaced = text.contains('.') && (fraction.is_empty() || whole.len() != 8);
    if parts.next().is_some() || fraction_is_misplaced {
        return None;
    }
    // Go drops digits after the ninth, however many there are.
    let kept = fraction.get(..9).unwrap_or(fraction);
    let rest_is_digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let nanosecond = nanoseconds(kept).ok().filter(|_| rest_is_digits)?;
    civil::Time::new(hour, minute, second, i32::try_from(nanosecond).ok()?).ok()
}

fn offset_of(zone: &str, local: tz::Offset) -> Option<tz::Offset> {
    match zone {
        "" => return Some(local),
        "Z" => return Some(tz::Offset::UTC),
        _ => {}
    }
    let sign = if zone.starts_with('-') { -1 } else { 1 };
    let (hours, minutes) = zone.strip_prefix(['+', '-'])?.split_once(':')?;
    let (hours, minutes) = (digits(hours, 2)?, digits(minutes, 2)?);
    if hours > 24 || minutes > 59 {
        return None;
    }
    tz::Offset::from_seconds(sign * (i32::from(hours) * 3600 + i32::from(minutes) * 60)).ok()
}

/// A number of exactly so many digits.
fn digits(text: &str, count: usize) -> Option<i16> {
    (text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())?
}

/// A text that is not a duration of Go. Prints Go's messages.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidDuration {
    /// No number with a unit, or more than 292 years.
    #[error("time: invalid duration {0:?}")]
    Syntax(String),
    /// A number without a unit.
    #[error("time: missing unit in duration {0:?}")]
    MissingUnit(String),
    /// A number with another unit than `ns`, `us`, `ms`, `s`, `m` or `h`.
    #[error("time: unknown unit {unit:?} in duration {given:?}")]
    UnknownUnit {
        /// The unit.
        unit: String,
        /// The whole text.
        given: String,
    },
}

/// Reads a duration of Go: `1h30m`, `-1.5s`, `300ms`, `0`.
///
/// # Errors
/// [`InvalidDuration`].
pub fn parse_go_duration(given: &str) -> Result<SignedDuration, InvalidDuration> {
    let bad = || InvalidDuration::Syntax(given.to_owned());
    let (negative, mut rest) = match given.strip_prefix(['-', '+']) {
        Some(rest) => (given.starts_with('-'), rest),
        None => (false, given),
    };
    if rest == "0" {
        return Ok(SignedDuration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let is_number = |c: char| c.is_ascii_digit() || c == '.';
        let (number, after) = rest.split_at(rest.find(|c| !is_number(c)).unwrap_or(rest.len()));
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        rest = after;
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(bad());
        }
        if unit.is_empty() {
            return Err(InvalidDuration::MissingUnit(given.to_owned()));
        }
        let unit = nanoseconds_of(unit).ok_or_else(|| InvalidDuration::UnknownUnit {
            unit: unit.to_owned(),
            given: given.to_owned(),
        })?;
        total = amount(whole, fraction, unit)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(bad)?;
    }
    let nanoseconds = if negative { -total } else { total };
    i64::try_from(nanoseconds).map(SignedDuration::from_nanos).map_err(|_| bad())
}

/// `whole.fraction` times `unit`, in nanoseconds, cut.
fn amount(whole: &str, fraction: &str, unit: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse::<u64>().ok()?.into() };
    // 18 digits are more than an hour has nanoseconds.
    let fraction = fraction.get(..18).unwrap_or(fraction);
    let scale = 10_i128.pow(u32::try_from(fraction.len()).ok()?);
    let part: i128 = if fraction.is_empty() { 0 } else { fraction.parse::<u64>().ok()?.into() };
    Some(whole * unit + part * unit / scale)
}

fn nanoseconds_of(unit: &str) -> Option<i128> {
    Some(match unit {
        "ns" => 1,
        // The micro sign and the Greek letter.
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    })
}

/// A duration in words: `Less than a second`, `5 seconds`, `About an hour`, `3 weeks`.
#[must_use]
pub fn human_duration(duration: Duration) -> String {
    const HOUR: u64 = 3600;
    let seconds = duration.as_secs();
    let minutes = seconds / 60;
    // Docker rounds hours half up, and the larger units down from those rounded hours.
    let hours = seconds.saturating_add(HOUR / 2) / HOUR;
    match (seconds, minutes, hours) {
        (0, ..) => "Less than a second".to_owned(),
        (1, ..) => "1 second".to_owned(),
        (2..60, ..) => format!("{seconds} seconds"),
        (_, 1, _) => "About a minute".to_owned(),
        (_, 2..60, _) => format!("{minutes} minutes"),
        (.., 1) => "About an hour".to_owned(),
        (.., 2..48) => format!("{hours} hours"),
        (.., 48..336) => format!("{} days", hours / 24),
        (.., 336..1440) => format!("{} weeks", hours / 24 / 7),
        (.., 1440..17520) => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", seconds / HOUR / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn chain(error: &dyn std::error::Error) -> String {
        error
            .source()
            .map_or_else(|| error.to_string(), |source| format!("{error}: {}", chain(source)))
    }

    #[test]
    fn fractions_lose_their_trailing_zeros() {
        for (nanoseconds, expected) in [
            (0, "2024-01-02T03:04:05Z"),
            (500_000_000, "2024-01-02T03:04:05.5Z"),
            (120_000_000, "2024-01-02T03:04:05.12Z"),
            (123_400_000, "2024-01-02T03:04:05.1234Z"),
            (1, "2024-01-02T03:04:05.000000001Z"),
        ] {
            let moment = Timestamp::new(1_704_164_645, nanoseconds).unwrap();
            assert_eq!(rfc3339_nano(moment), expected);
        }
        assert_eq!(rfc3339_nano_or_zero(None), "0001-01-01T00:00:00Z");
        assert_eq!(rfc3339_nano_or_zero(Some(Timestamp::UNIX_EPOCH)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn stamps_have_a_fixed_width() {
        let moment = time("2024-01-02T03:04:05.25Z");
        assert_eq!(log_stamp(moment), "2024-01-02T03:04:05.250000000Z");
        assert_eq!(log_stamp(time("2024-01-02T03:04:05Z")), "2024-01-02T03:04:05.000000000Z");
        assert_eq!(
            rfc3339(time("2024-01-02T03:04:05.999Z")),
            "2024-01-02T03:04:05Z",
            "cut, not rounded"
        );
    }

    #[test]
    fn unix_seconds_with_fraction() {
        for (given, expected) in [
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000", "2023-11-14T22:13:20Z"),
            ("1700000000.", "2023-11-14T22:13:20Z"),
            ("1700000000.0", "2023-11-14T22:13:20Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("1700000000.000000001", "2023-11-14T22:13:20.000000001Z"),
            ("1700000000.12345678999999999999", "2023-11-14T22:13:20.123456789Z"),
            ("-1", "1969-12-31T23:59:59Z"),
            ("-1.5", "1969-12-31T23:59:59.5Z"),
            ("+1", "1970-01-01T00:00:01Z"),
        ] {
            assert_eq!(parse_unix(given).unwrap().unwrap().to_string(), expected, "{given}");
        }
        assert_eq!(parse_unix(""), Ok(None));
    }

    #[test]
    fn what_are_no_unix_seconds() {
        for (given, expected) in [
            ("x", "invalid timestamp \"x\": invalid seconds \"x\": invalid syntax"),
            (".5", "invalid timestamp \".5\": invalid seconds \"\": invalid syntax"),
            (
                "99999999999999999999",
                "invalid timestamp \"99999999999999999999\": invalid seconds \"99999999999999999999\": value out of range",
            ),
            (
                "9999999999999",
                "invalid timestamp \"9999999999999\": invalid seconds \"9999999999999\": value out of range",
            ),
            (
                "1.5x",
                "invalid timestamp \"1.5x\": invalid nanoseconds: invalid character 'x' at position 1",
            ),
            (
                "1.-5",
                "invalid timestamp \"1.-5\": invalid nanoseconds: invalid character '-' at position 0",
            ),
            (
                "1.000000000000000000000",
                "invalid timestamp \"1.000000000000000000000\": invalid nanoseconds: length 21 exceeds maximum 20",
            ),
        ] {
            assert_eq!(chain(&parse_unix(given).unwrap_err()), expected);
        }
    }

    #[test]
    fn prunes_take_durations_times_and_seconds() {
        let now: Zoned = "2024-01-10T12:00:00+01:00[+01:00]".parse().unwrap();
        for (given, expected) in [
            ("24h", "2024-01-09T11:00:00Z"),
            ("1h30m", "2024-01-10T09:30:00Z"),
            ("-1h", "2024-01-10T12:00:00Z"),
            ("0", "1970-01-01T00:00:00Z"),
            ("1700000000.5", "2023-11-14T22:13:20.5Z"),
            ("2024-01-02", "2024-01-01T23:00:00Z"),
            ("2024-01-02Z", "2024-01-02T00:00:00Z"),
            ("2024-01-02+02:00", "2024-01-01T22:00:00Z"),
            ("2024-01-02-02:00", "2024-01-02T02:00:00Z"),
            ("2024-01-02T03", "2024-01-02T02:00:00Z"),
            ("2024-01-02T03:04", "2024-01-02T02:04:00Z"),
            ("2024-01-02T03:04:05", "2024-01-02T02:04:05Z"),
            ("2024-01-02T03:04:05.123456789123", "2024-01-02T02:04:05.123456789Z"),
            ("2024-01-02T03Z", "2024-01-02T03:00:00Z"),
            ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
            ("2024-01-02T03:04:05.5-07:00", "2024-01-02T10:04:05.5Z"),
        ] {
            assert_eq!(parse(given, &now).unwrap().to_string(), expected, "{given}");
        }
    }

    #[test]
    fn what_is_no_time() {
        let now: Zoned = "2024-01-10T12:00:00+00:00[+00:00]".parse().unwrap();
        for (given, expected) in [
            (" ", "failed to parse value as time or duration: value is empty"),
            (
                "x",
                "failed to parse value as time or duration: invalid seconds \"x\": invalid syntax",
            ),
            ("2024-13-01", "parsing time \"2024-13-01\": not an RFC 3339 time"),
            ("2024-1-1", "parsing time \"2024-1-1\": not an RFC 3339 time"),
            ("2024-01-01 00:00", "parsing time \"2024-01-01 00:00\": not an RFC 3339 time"),
            ("2024-01-01T25", "parsing time \"2024-01-01T25\": not an RFC 3339 time"),
            ("2024-01-01T00:00.5", "parsing time \"2024-01-01T00:00.5\": not an RFC 3339 time"),
            (
                "2024-01-01T00:00:00+1",
                "parsing time \"2024-01-01T00:00:00+1\": not an RFC 3339 time",
            ),
            (
                "2024-01-01T00:00:00+ä:00",
                "parsing time \"2024-01-01T00:00:00+ä:00\": not an RFC 3339 time",
            ),
            ("2024-01-01ä", "parsing time \"2024-01-01ä\": not an RFC 3339 time"),
            ("2024-01-0ä", "parsing time \"2024-01-0ä\": not an RFC 3339 time"),
        ] {
            assert_eq!(chain(&parse(given, &now).unwrap_err()), expected);
        }
    }

    #[test]
    fn durations_of_go() {
        for (given, nanoseconds) in [
            ("0", 0),
            ("-0", 0),
            ("5s", 5_000_000_000),
            ("1h2m3s4ms5us6ns", 3_723_004_005_006),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("5.s", 5_000_000_000),
            ("-1.5s", -1_500_000_000),
            ("+5s", 5_000_000_000),
            ("1µs", 1_000),
            ("1μs", 1_000),
            ("0.9ns", 0),
            ("9223372036854775807ns", i64::MAX),
            ("-9223372036854775808ns", i64::MIN),
        ] {
            assert_eq!(
                parse_go_duration(given),
                Ok(SignedDuration::from_nanos(nanoseconds)),
                "{given}"
            );
        }
        for (given, expected) in [
            ("", "time: invalid duration \"\""),
            ("-", "time: invalid duration \"-\""),
            (".", "time: invalid duration \".\""),
            (".s", "time: invalid duration \".s\""),
            ("1.2.3s", "time: invalid duration \"1.2.3s\""),
            ("s", "time: invalid duration \"s\""),
            ("5", "time: missing unit in duration \"5\""),
            ("1h5", "time: missing unit in duration \"1h5\""),
            ("5d", "time: unknown unit \"d\" in duration \"5d\""),
            ("1 s", "time: unknown unit \" s\" in duration \"1 s\""),
            ("9223372036854775808ns", "time: invalid duration \"9223372036854775808ns\""),
            ("99999999999999999999h", "time: invalid duration \"99999999999999999999h\""),
        ] {
            assert_eq!(parse_go_duration(given).unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn durations_in_words() {
        const MINUTE: u64 = 60;
        const HOUR: u64 = 60 * MINUTE;
        const DAY: u64 = 24 * HOUR;
        for (seconds, expected) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (2, "2 seconds"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (119, "About a minute"),
            (120, "2 minutes"),
            (59 * MINUTE + 59, "59 minutes"),
            (HOUR, "About an hour"),
            (HOUR + 29 * MINUTE, "About an hour"),
            (HOUR + 30 * MINUTE, "2 hours"),
            (47 * HOUR + 29 * MINUTE, "47 hours"),
            (47 * HOUR + 30 * MINUTE, "2 days"),
            (13 * DAY, "13 days"),
            (14 * DAY, "2 weeks"),
            (59 * DAY, "8 weeks"),
            (60 * DAY, "2 months"),
            (729 * DAY, "24 months"),
            (730 * DAY, "2 years"),
            (u64::MAX, "584942417355 years"),
        ] {
            assert_eq!(human_duration(Duration::from_secs(seconds)), expected, "{seconds} s");
        }
        assert_eq!(human_duration(Duration::from_millis(999)), "Less than a second");
    }
}
