//! One line of a Kubernetes log: `2016-10-06T00:17:09.669794202Z stdout F text`.
//!
//! The tag is `F` for a whole line and `P` for a part, perhaps followed by `:` and more (Kubernetes design proposal "CRI
//! logging", kubelet `pkg/kubelet/kuberuntime/logs`).

use io_monitor::frames::Stream;
use jiff::Timestamp;

use super::stamp::Stamps;

/// Append the text of `line` to `text`, with a newline unless it is a part. `None` if the line is no entry.
pub(super) fn parse(
    line: &[u8],
    text: &mut Vec<u8>,
    stamps: &mut Stamps,
) -> Option<(Stream, Timestamp)> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = stamps.parse(fields.next()?)?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let is_part = match fields.next()?.split(|byte| *byte == b':').next()? {
        b"P" => true,
        b"F" => false,
        _ => return None,
    };
    text.extend_from_slice(fields.next().unwrap_or_default());
    if !is_part {
        text.push(b'\n');
    }
    Some((stream, time))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_the_kubelets_documentation() {
        let time = "2016-10-06T00:17:09.669794202Z";
        for (line, expected) in [
            (format!("{time} stdout F log content 1"), Some(("log content 1\n", Stream::Stdout))),
            (format!("{time} stderr P part of "), Some(("part of ", Stream::Stderr))),
            (format!("{time} stderr F:x:y "), Some(("\n", Stream::Stderr))),
            (format!("{time} stdout F"), Some(("\n", Stream::Stdout))),
            (format!("{time} stdin F x"), None),
            (format!("{time} stdout X x"), None),
            ("no time at all".into(), None),
            (String::new(), None),
        ] {
            let mut text = Vec::new();
            let parsed = parse(line.as_bytes(), &mut text, &mut Stamps::default());
            let expected_time: Timestamp = time.parse().unwrap();
            assert_eq!(parsed, expected.map(|(_, stream)| (stream, expected_time)), "{line}");
            assert_eq!(text, expected.map_or("", |(text, _)| text).as_bytes(), "{line}");
        }
    }
}
