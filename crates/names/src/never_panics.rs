//! Random texts against every parser: none panics, and whatever is accepted survives being printed.

mod tests {
    use std::fmt::{Debug, Display};
    use std::str::FromStr;

    use crate::{
        ByteSize, ContainerId, ContainerName, ContainerRef, Digest, ExecId, ImageId, ImageRef,
        ImageSelector, Namespace, NetworkId, NetworkName, NetworkRef, Platform, PortRange,
        PortSpec, Signal, VolumeName,
    };

    /// Fragments that lead deep into the grammars; single random letters would all fail at once.
    const FRAGMENTS: &[&str] = &[
        "",
        "a",
        "B",
        "0",
        "9",
        "64",
        "-",
        "--",
        "_",
        "__",
        ".",
        "..",
        ":",
        "@",
        "/",
        "//",
        "[",
        "]",
        "::1",
        " ",
        "+",
        "ä",
        "\u{130}",
        "\0",
        "sha256:",
        "sha512:",
        "docker.io",
        "library",
        "localhost",
        "5000",
        "RTMIN",
        "RTMAX",
        "SIG",
        "KILL",
        "linux",
        "arm64",
        "v9.1",
        "v8",
        "amd64",
        "tcp",
        "udp",
        "kb",
        "ib",
        "e",
        "1e400",
        "65535",
        "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    ];

    /// xorshift64: the same texts in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, limit: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 33).unwrap() % limit
        }

        fn text(&mut self) -> String {
            (0..self.below(7)).map(|_| FRAGMENTS[self.below(FRAGMENTS.len())]).collect()
        }
    }

    /// Parsing the printed form must give the same value again.
    fn round_trip<T>(text: &str)
    where
        T: FromStr + Display + Debug + PartialEq,
        T::Err: Display + Debug,
    {
        match text.parse::<T>() {
            Ok(value) => {
                assert_eq!(value.to_string().parse::<T>().as_ref().ok(), Some(&value), "{text:?}");
            }
            Err(error) => assert!(!error.to_string().is_empty(), "{text:?}"),
        }
    }

    #[test]
    fn any_text_is_accepted_or_refused() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..20_000 {
            let text = random.text();
            round_trip::<ContainerId>(&text);
            round_trip::<ContainerName>(&text);
            round_trip::<ContainerRef>(&text);
            round_trip::<Digest>(&text);
            round_trip::<ExecId>(&text);
            round_trip::<ImageId>(&text);
            round_trip::<ImageRef>(&text);
            round_trip::<Namespace>(&text);
            round_trip::<NetworkId>(&text);
            round_trip::<NetworkName>(&text);
            round_trip::<NetworkRef>(&text);
            round_trip::<Platform>(&text);
            round_trip::<PortRange>(&text);
            round_trip::<PortSpec>(&text);
            round_trip::<Signal>(&text);
            round_trip::<VolumeName>(&text);
            let _ = ByteSize::parse_binary(&text).map(|size| size.binary() + &size.decimal_short());
            if let Ok(selector) = text.parse::<ImageSelector>() {
                assert!(
                    selector.reference().is_some() || selector.id_prefix().is_some(),
                    "{text:?}"
                );
            }
            if let (Ok(wanted), Ok(candidate)) =
                (text.parse::<Platform>(), random.text().parse::<Platform>())
            {
                let _ = wanted.rank(&candidate);
            }
        }
    }
}
