//! Platforms: `linux/arm64/v8`, their many spellings, and which images run on which machine.
//!
//! Source: containerd/platforms `platforms.go`, `database.go`, `compare.go`.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

/// Operating systems that may be written alone, without an architecture.
const KNOWN_OS: &[&str] = &[
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// Architectures that may be written alone, without an operating system.
const KNOWN_ARCHITECTURES: &[&str] = &[
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "armbe",
    "arm64",
    "arm64be",
    "ppc64",
    "ppc64le",
    "loong64",
    "mips",
    "mipsle",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "ppc",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

/// An operating system, an architecture and perhaps a variant of it, in Go's normalised spelling.
///
/// The normal form leaves a variant out where it is the base of its architecture: `arm64`, not `arm64/v8`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    os: String,
    architecture: String,
    /// Empty when there is none: that is how image documents say it.
    variant: String,
}

impl Platform {
    /// The platform of these parts in any spelling, normalised. An empty system means this machine's;
    /// an empty variant means none.
    ///
    /// Parts come from image documents, so they are taken as they are.
    #[must_use]
    pub fn new(os: &str, architecture: &str, variant: &str) -> Self {
        let (architecture, variant) = normalise(architecture, variant);
        Self { os: normalise_os(os), architecture, variant }
    }

    /// The platform of this machine.
    #[must_use]
    pub fn host() -> Self {
        Self::new(std::env::consts::OS, host_architecture(), "")
    }

    /// The operating system in Go's spelling: `linux`.
    #[must_use]
    pub fn os(&self) -> &str {
        &self.os
    }

    /// The architecture in Go's spelling: `amd64`, `arm64`.
    #[must_use]
    pub fn architecture(&self) -> &str {
        &self.architecture
    }

    /// The variant, unless it is the base of its architecture.
    #[must_use]
    pub fn variant(&self) -> Option<&str> {
        Some(self.variant.as_str()).filter(|variant| !variant.is_empty())
    }

    /// How well an image for `candidate` fits when `self` is wanted: 0 is exact, larger is worse, `None` does not run.
    ///
    /// A machine also runs images for older variants of its architecture, and 64-bit x86 and Arm also their 32-bit
    /// ancestors. This is the order of `platforms.Only`.
    #[must_use]
    pub fn rank(&self, candidate: &Self) -> Option<usize> {
        if self.os != candidate.os {
            return None;
        }
        let wanted = (candidate.architecture.as_str(), candidate.variant.as_str());
        self.accepted()
            .iter()
            .position(|(architecture, variant)| (*architecture, variant.as_str()) == wanted)
    }

    /// Whether `candidate` is exactly what is wanted: `platforms.OnlyStrict`.
    #[must_use]
    pub fn strictly_matches(&self, candidate: &Self) -> bool {
        self == candidate
    }

    /// Normalised architectures and variants that run here, best first.
    fn accepted(&self) -> Vec<(&str, String)> {
        match self.architecture.as_str() {
            "amd64" => {
                let level = variant_number(&self.variant);
                let older =
                    (2..level.unwrap_or(0)).rev().map(|level| ("amd64", format!("v{level}")));
                let base = level.filter(|level| *level > 1).map(|_| ("amd64", String::new()));
                let own = ("amd64", self.variant.clone());
                std::iter::once(own)
                    .chain(older)
                    .chain(base)
                    .chain([("386", String::new())])
                    .collect()
            }
            "arm" => arm_from(&self.variant).collect(),
            "arm64" => arm64_from(&self.variant),
            other => vec![(other, self.variant.clone())],
        }
    }
}

/// `v7`, `v6`, `v5` for `v7`.
fn arm_from(variant: &str) -> impl Iterator<Item = (&'static str, String)> {
    let older =
        (5..variant_number(variant).unwrap_or(0)).rev().map(|version| format!("v{version}"));
    std::iter::once(variant.to_owned()).chain(older).map(|variant| ("arm", variant))
}

/// All of 64-bit Arm at or below `variant`, then 32-bit Arm. An unknown variant matches nothing.
fn arm64_from(variant: &str) -> Vec<(&'static str, String)> {
    let Some((major, minor)) = arm64_version(variant) else {
        return Vec::new();
    };
    // Version 9.n contains 8.(n+5); there is no 8.10.
    let eights = if major == 9 { (minor + 5).min(9) } else { minor };
    let nines = (0..=minor)
        .rev()
        .filter(|_| major == 9)
        .map(|minor| if minor == 0 { "v9".to_owned() } else { format!("v9.{minor}") });
    let eights = (0..=eights)
        .rev()
        .map(|minor| if minor == 0 { String::new() } else { format!("v8.{minor}") });
    let sixty_four = nines.chain(eights).map(|variant| ("arm64", variant));
    sixty_four.chain(arm_from("v8")).collect()
}

/// The architecture versions of 64-bit Arm that containerd knows: 8.0 to 8.9 and 9.0 to 9.7.
fn arm64_version(variant: &str) -> Option<(u8, u8)> {
    if variant.is_empty() {
        return Some((8, 0));
    }
    let version = variant.strip_prefix('v')?;
    let (major, minor) = version.split_once('.').unwrap_or((version, "0"));
    match (major, minor.as_bytes()) {
        ("8", [digit @ b'0'..=b'9']) => Some((8, digit - b'0')),
        ("9", [digit @ b'0'..=b'7']) => Some((9, digit - b'0')),
        _ => None,
    }
}

/// The number in `v7` or `7`. Absurd ones count as none, so that nobody makes us count to a billion.
fn variant_number(variant: &str) -> Option<u8> {
    variant.strip_prefix('v').unwrap_or(variant).parse().ok()
}

fn normalise_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => normalise_os(std::env::consts::OS),
        "macos" => "darwin".to_owned(),
        lower => lower.to_owned(),
    }
}

fn normalise(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (other, variant) => (other, variant),
    };
    (architecture.to_owned(), variant.to_owned())
}

/// Go's name for the architecture that this program was built for.
fn host_architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "x86" => "386",
        "aarch64" => "arm64",
        "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
        "powerpc64" => "ppc64",
        "loongarch64" => "loong64",
        same => same,
    }
}

impl FromStr for Platform {
    type Err = InvalidPlatform;

    /// Reads `os/architecture/variant`, `os/architecture`, or one of the first two alone.
    fn from_str(given: &str) -> Result<Self, Self::Err> {
        let parts: Vec<&str> = given.split('/').collect();
        if let Some(bad) = parts.iter().find(|part| !is_component(part)) {
            return Err(InvalidPlatform::Component {
                given: given.to_owned(),
                component: (*bad).to_owned(),
            });
        }
        match parts[..] {
            [os] if KNOWN_OS.contains(&normalise_os(os).as_str()) => {
                Ok(Self::new(os, host_architecture(), ""))
            }
            [architecture] => {
                let platform = Self::new("", architecture, "");
                if !KNOWN_ARCHITECTURES.contains(&platform.architecture.as_str()) {
                    return Err(InvalidPlatform::Unknown { given: given.to_owned() });
                }
                Ok(platform)
            }
            [os, architecture] => Ok(Self::new(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::new(os, architecture, variant)),
            _ => Err(InvalidPlatform::Format { given: given.to_owned() }),
        }
    }
}

/// `^[A-Za-z0-9_.-]+$`.
fn is_component(part: &str) -> bool {
    !part.is_empty()
        && part
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", self.variant) }
    }
}

/// A text that is not a platform. Prints containerd's messages, which Docker passes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InvalidPlatform {
    /// A part is empty or has a character that no part has.
    Component {
        /// The text that was given.
        given: String,
        /// The part that is wrong.
        component: String,
    },
    /// One word that is neither a known system nor a known architecture.
    Unknown {
        /// The text that was given.
        given: String,
    },
    /// More than three parts.
    Format {
        /// The text that was given.
        given: String,
    },
}

impl fmt::Display for InvalidPlatform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component { given, component } => write!(
                f,
                "{component:?} is an invalid component of {given:?}: platform specifier component must match \
                 \"^[A-Za-z0-9_.-]+$\": invalid argument"
            ),
            Self::Unknown { given } => {
                write!(f, "{given:?}: unknown operating system or architecture: invalid argument")
            }
            Self::Format { given } => {
                write!(f, "{given:?}: cannot parse platform specifier: invalid argument")
            }
        }
    }
}

impl Error for InvalidPlatform {}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        text.parse().unwrap()
    }

    /// Everything that runs on `wanted`, best first, out of a list in no order.
    fn accepted(wanted: &str, candidates: &[&str]) -> Vec<String> {
        let wanted = platform(wanted);
        let mut ranked: Vec<_> = candidates
            .iter()
            .filter_map(|candidate| {
                wanted.rank(&platform(candidate)).map(|rank| (rank, (*candidate).to_owned()))
            })
            .collect();
        ranked.sort();
        ranked.into_iter().map(|(_, candidate)| candidate).collect()
    }

    #[test]
    fn spellings_are_normalised() {
        for (given, normal) in [
            ("linux/x86_64", "linux/amd64"),
            ("linux/x86-64/v1", "linux/amd64"),
            ("Linux/AMD64/V3", "linux/amd64/v3"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/v8.0", "linux/arm64"),
            ("linux/arm64/9.0", "linux/arm64/v9"),
            ("linux/arm64/v8.1", "linux/arm64/v8.1"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/i386", "linux/386"),
            ("macos/arm64", "darwin/arm64"),
            ("linux/s390x", "linux/s390x"),
        ] {
            assert_eq!(platform(given).to_string(), normal, "{given}");
        }
    }

    #[test]
    fn one_word_is_completed_from_the_host() {
        let host = Platform::host();
        assert_eq!(platform("linux").architecture(), host.architecture());
        assert_eq!(platform("aarch64").os(), host.os());
        assert_eq!(platform("aarch64").architecture(), "arm64");
    }

    #[test]
    fn what_is_no_platform() {
        for (given, expected) in [
            (
                "",
                "\"\" is an invalid component of \"\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument",
            ),
            (
                "linux/*",
                "\"*\" is an invalid component of \"linux/*\": platform specifier component must match \"^[A-Za-z0-9_.-]+$\": invalid argument",
            ),
            ("what", "\"what\": unknown operating system or architecture: invalid argument"),
            ("a/b/c/d", "\"a/b/c/d\": cannot parse platform specifier: invalid argument"),
        ] {
            assert_eq!(given.parse::<Platform>().unwrap_err().to_string(), expected);
        }
    }

    #[test]
    fn amd64_runs_older_levels_and_386() {
        let candidates = [
            "linux/386",
            "linux/amd64",
            "linux/amd64/v2",
            "linux/amd64/v3",
            "linux/amd64/v4",
            "linux/arm64",
        ];
        assert_eq!(
            accepted("linux/amd64/v3", &candidates),
            ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"]
        );
        assert_eq!(accepted("linux/amd64", &candidates), ["linux/amd64", "linux/386"]);
    }

    #[test]
    fn arm64_runs_older_versions_and_32_bit_arm() {
        let candidates = [
            "linux/arm/v5",
            "linux/arm/v6",
            "linux/arm/v7",
            "linux/arm/v8",
            "linux/arm64",
            "linux/arm64/v8.5",
            "linux/arm64/v8.6",
            "linux/arm64/v9",
            "linux/arm64/v9.1",
            "linux/arm64/v9.2",
            "linux/amd64",
        ];
        assert_eq!(
            accepted("linux/arm64", &candidates),
            ["linux/arm64", "linux/arm/v8", "linux/arm/v7", "linux/arm/v6", "linux/arm/v5"]
        );
        assert_eq!(
            accepted("linux/arm64/v9.1", &candidates)[..5],
            [
                "linux/arm64/v9.1",
                "linux/arm64/v9",
                "linux/arm64/v8.6",
                "linux/arm64/v8.5",
                "linux/arm64"
            ]
        );
        assert_eq!(accepted("linux/arm64/v10", &candidates), Vec::<String>::new());
    }

    #[test]
    fn arm_runs_older_versions() {
        let candidates = ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64"];
        assert_eq!(accepted("linux/arm/v6", &candidates), ["linux/arm/v6", "linux/arm/v5"]);
    }

    #[test]
    fn other_systems_never_match() {
        assert_eq!(platform("linux/amd64").rank(&platform("windows/amd64")), None);
        assert_eq!(platform("linux/riscv64").rank(&platform("linux/riscv64")), Some(0));
    }

    #[test]
    fn strict_means_equal() {
        assert!(platform("linux/arm64").strictly_matches(&platform("linux/aarch64/v8")));
        assert!(!platform("linux/amd64").strictly_matches(&platform("linux/386")));
    }
}
