//! Signals by name or number, as `docker kill --signal` accepts them.
//!
//! Source: moby/sys `signal/signal.go`, `signal/signal_linux.go`. The numbers are those of Linux on
//! every architecture that containerd supports except MIPS.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// The first real-time signal that a program may use; glibc keeps 32 and 33 for itself.
const RTMIN: u8 = 34;
/// The last real-time signal.
const RTMAX: u8 = 64;
/// Names count up from `RTMIN` to this number, and down from `RTMAX` above it.
const LAST_NAMED_FROM_RTMIN: u8 = RTMIN + 15;
const FIRST_NAMED_FROM_RTMAX: u8 = LAST_NAMED_FROM_RTMIN + 1;

/// Names in the order of their numbers; where two share a number, the usual one comes first.
const NAMED: &[(&str, u8)] = &[
    ("HUP", 1),
    ("INT", 2),
    ("QUIT", 3),
    ("ILL", 4),
    ("TRAP", 5),
    ("ABRT", 6),
    ("IOT", 6),
    ("BUS", 7),
    ("FPE", 8),
    ("KILL", 9),
    ("USR1", 10),
    ("SEGV", 11),
    ("USR2", 12),
    ("PIPE", 13),
    ("ALRM", 14),
    ("TERM", 15),
    ("STKFLT", 16),
    ("CHLD", 17),
    ("CLD", 17),
    ("CONT", 18),
    ("STOP", 19),
    ("TSTP", 20),
    ("TTIN", 21),
    ("TTOU", 22),
    ("URG", 23),
    ("XCPU", 24),
    ("XFSZ", 25),
    ("VTALRM", 26),
    ("PROF", 27),
    ("WINCH", 28),
    ("IO", 29),
    ("POLL", 29),
    ("PWR", 30),
    ("SYS", 31),
];

/// A signal of Linux: 1 to 31, or 34 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Signal(u8);

impl Signal {
    /// `SIGHUP`.
    pub const HUP: Self = Self(1);
    /// `SIGINT`.
    pub const INT: Self = Self(2);
    /// `SIGQUIT`.
    pub const QUIT: Self = Self(3);
    /// `SIGKILL`: the process cannot catch it.
    pub const KILL: Self = Self(9);
    /// `SIGTERM`: how a container is stopped when nothing else was configured.
    pub const TERM: Self = Self(15);

    /// The number that the kernel knows.
    #[must_use]
    pub fn number(self) -> u32 {
        u32::from(self.0)
    }

    /// The name with its prefix: `SIGTERM`, `SIGRTMIN+3`, `SIGRTMAX-14`.
    #[must_use]
    pub fn name(self) -> String {
        match self.0 {
            RTMIN => "SIGRTMIN".to_owned(),
            RTMAX => "SIGRTMAX".to_owned(),
            low @ RTMIN..=LAST_NAMED_FROM_RTMIN => format!("SIGRTMIN+{}", low - RTMIN),
            high @ FIRST_NAMED_FROM_RTMAX.. => format!("SIGRTMAX-{}", RTMAX - high),
            classic => {
                let name = NAMED
                    .iter()
                    .find(|(_, number)| *number == classic)
                    .map_or("", |(name, _)| name);
                format!("SIG{name}")
            }
        }
    }

    /// The signal with this number, if Linux has it and programs may use it.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        match u8::try_from(number) {
            Ok(number @ (1..=31 | RTMIN..=RTMAX)) => Some(Self(number)),
            _ => None,
        }
    }

    /// The signal called `name`, in upper case and without `SIG`.
    fn from_bare_name(name: &str) -> Option<Self> {
        if let Some((_, number)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Some(Self(*number));
        }
        match name {
            "RTMIN" => return Some(Self(RTMIN)),
            "RTMAX" => return Some(Self(RTMAX)),
            _ => {}
        }
        let number = if let Some(above) = name.strip_prefix("RTMIN+") {
            RTMIN.checked_add(offset(above, LAST_NAMED_FROM_RTMIN - RTMIN)?)
        } else {
            RTMAX.checked_sub(offset(name.strip_prefix("RTMAX-")?, RTMAX - FIRST_NAMED_FROM_RTMAX)?)
        };
        number.map(Self)
    }
}

/// A plain decimal offset from 1 to `most`.
fn offset(text: &str, most: u8) -> Option<u8> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && !text.starts_with('0');
    text.parse().ok().filter(|offset| plain && *offset <= most)
}

impl FromStr for Signal {
    type Err = InvalidSignal;

    /// Takes a number, or a name in any case with or without `SIG`.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let found = if let Ok(number) = given.parse::<u32>() {
            Self::from_number(number)
        } else {
            let upper = given.to_ascii_uppercase();
            Self::from_bare_name(upper.strip_prefix("SIG").unwrap_or(&upper))
        };
        found.ok_or_else(|| InvalidSignal { given: given.to_owned() })
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.name())
    }
}

/// A text that names no signal. Prints Docker's message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidSignal {
    /// The text that was given.
    pub given: String,
}

impl fmt::Display for InvalidSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid signal: {}", self.given)
    }
}

impl Error for InvalidSignal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_means_the_same() {
        for spelling in ["SIGTERM", "TERM", "term", "sigterm", "15", "+15"] {
            assert_eq!(spelling.parse(), Ok(Signal::TERM), "{spelling}");
        }
    }

    #[test]
    fn synonyms_have_one_name() {
        for (synonym, name) in [("IOT", "SIGABRT"), ("CLD", "SIGCHLD"), ("POLL", "SIGIO")] {
            assert_eq!(synonym.parse::<Signal>().unwrap().name(), name);
        }
    }

    #[test]
    fn every_number_survives_its_name() {
        for number in (1..=31).chain(34..=64) {
            let signal = Signal::from_number(number).unwrap();
            assert_eq!(signal.number(), number);
            assert_eq!(signal.name().parse(), Ok(signal), "{}", signal.name());
        }
    }

    #[test]
    fn real_time_signals_are_counted_from_both_ends() {
        let number = |name: &str| name.parse::<Signal>().map(Signal::number).ok();
        assert_eq!(number("SIGRTMIN+3"), Some(37), "systemd's halt");
        assert_eq!(number("RTMIN+15"), Some(49));
        assert_eq!(number("RTMAX-14"), Some(50));
        for unknown in
            ["RTMIN+16", "RTMAX-15", "RTMIN+0", "RTMIN+", "RTMIN-1", "RTMAX+1", "RTMIN+03"]
        {
            assert_eq!(number(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_rest_is_refused_in_dockers_words() {
        for bad in ["", "0", "-9", "32", "33", "65", "256", "SIG", "SIGSIGTERM", "WHAT", "9 "] {
            let error = bad.parse::<Signal>().unwrap_err();
            assert_eq!(error.to_string(), format!("invalid signal: {bad}"));
        }
    }
}
