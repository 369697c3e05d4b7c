//! When a line was written, and how that is spelled.

use std::time::{SystemTime, UNIX_EPOCH};

use jiff::Timestamp;

/// Seconds and nanoseconds since 1970.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Time {
    pub(super) second: i64,
    pub(super) nanosecond: u32,
}

impl Time {
    fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let second = i64::try_from(since_epoch.as_secs()).unwrap_or_default();
        Self { second, nanosecond: since_epoch.subsec_nanos() }
    }

    fn next(self) -> Self {
        if self.nanosecond < 999_999_999 {
            Self { nanosecond: self.nanosecond + 1, ..self }
        } else {
            Self { second: self.second + 1, nanosecond: 0 }
        }
    }
}

/// Wall-clock times that do not repeat.
///
/// Lines that were read in one go came at one moment, so the system's clock is asked once for all of them.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    last: Time,
    asked: bool,
}

impl Clock {
    /// A time after all earlier ones.
    pub(crate) fn now(&mut self) -> Time {
        if self.asked {
            self.last = self.last.next();
            return self.last;
        }
        self.asked = true;
        self.after(Time::now())
    }

    /// What comes next was read later.
    pub(crate) fn pass(&mut self) {
        self.asked = false;
    }

    /// `now`, or a nanosecond after the last time if that is not before `now`; a clock that was set back is believed.
    fn after(&mut self, now: Time) -> Time {
        let set_back = self.last.second - now.second > 1;
        self.last = if now > self.last || set_back { now } else { self.last.next() };
        self.last
    }
}

/// The text of times; that of a second is made once.
#[derive(Debug, Default)]
pub(crate) struct TimeText {
    text_of: i64,
    text: String,
}

impl TimeText {
    /// RFC 3339 in UTC without trailing zeros, as Go's `RFC3339Nano`.
    pub(crate) fn write(&mut self, out: &mut Vec<u8>, time: Time) {
        if self.text.is_empty() || self.text_of != time.second {
            let second = Timestamp::from_second(time.second).unwrap_or(Timestamp::UNIX_EPOCH);
            self.text = second.strftime("%Y-%m-%dT%H:%M:%S").to_string();
            self.text_of = time.second;
        }
        out.extend_from_slice(self.text.as_bytes());
        if time.nanosecond > 0 {
            let mut digits = *b".000000000";
            let mut rest = time.nanosecond;
            for digit in digits[1..].iter_mut().rev() {
                *digit += u8::try_from(rest % 10).unwrap_or_default();
                rest /= 10;
            }
            let end = digits.iter().rposition(|digit| *digit != b'0').unwrap_or_default();
            out.extend_from_slice(&digits[..=end]);
        }
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_gos() {
        let mut texts = TimeText::default();
        let mut text = |second, nanosecond| {
            let mut out = Vec::new();
            texts.write(&mut out, Time { second, nanosecond });
            String::from_utf8(out).unwrap()
        };
        assert_eq!(text(1_767_323_045, 123_456_789), "2026-01-02T03:04:05.123456789Z");
        assert_eq!(text(1_767_323_045, 120_000_000), "2026-01-02T03:04:05.12Z");
        assert_eq!(text(1_767_323_045, 0), "2026-01-02T03:04:05Z");
        assert_eq!(text(1_767_323_046, 1), "2026-01-02T03:04:06.000000001Z");
    }

    #[test]
    fn times_do_not_repeat() {
        let mut clock = Clock::default();
        let now = Time { second: 100, nanosecond: 999_999_999 };
        assert_eq!(clock.after(now), now);
        assert_eq!(clock.after(now), Time { second: 101, nanosecond: 0 });
        assert_eq!(clock.after(now), Time { second: 101, nanosecond: 1 });
        let back = Time { second: 50, nanosecond: 0 };
        assert_eq!(clock.after(back), back);
    }

    #[test]
    fn lines_of_one_read_follow_each_other_closely() {
        let mut clock = Clock::default();
        let first = clock.now();
        assert_eq!(clock.now(), first.next());
        clock.pass();
        assert!(clock.now() > first.next());
    }
}
