//! Output cut into log entries: a line each, long lines in parts of 16 KiB.

/// The longest entry, as at dockerd (moby `daemon/logger/copier.go`, `defaultBufSize`).
pub(crate) const PART: usize = 16 * 1024;

/// Cuts one stream.
#[derive(Debug, Default)]
pub(crate) struct Cutter {
    /// Beginning of a line that had to be taken out of the FIFO; always shorter than [`PART`], never with a newline.
    carry: Vec<u8>,
    /// The next entry continues a line whose first part was emitted.
    continues: bool,
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Piece<'a> {
    /// With its newline, if the line ends here.
    pub(crate) bytes: &'a [u8],
    /// Not the first part of its line: dockerd gives all parts the time of the first.
    pub(crate) continues: bool,
    /// The line ends here, with or without a newline.
    pub(crate) ends: bool,
}

impl Cutter {
    /// Emit all whole entries of what was carried and `data`, as long as `emit` takes them. Returns how many bytes of `data`
    /// are in them; if all were taken, the rest is the beginning of a line, shorter than [`PART`] together with what is
    /// carried.
    pub(crate) fn cut(&mut self, data: &[u8], mut emit: impl FnMut(Piece<'_>) -> bool) -> usize {
        let mut used = 0;
        loop {
            let rest = &data[used..];
            let taken = if self.carry.is_empty() {
                self.cut_from(rest, &mut emit)
            } else {
                self.cut_carried(rest, &mut emit)
            };
            if taken == 0 {
                return used;
            }
            used += taken;
        }
    }

    /// Remember the beginning of a line; `data` is what [`Cutter::cut`] left.
    pub(crate) fn take(&mut self, data: &[u8]) {
        self.carry.extend_from_slice(data);
    }

    /// What is remembered of the unfinished line.
    pub(crate) fn carried(&self) -> &[u8] {
        &self.carry
    }

    /// The stream has ended: emit what is left, without a newline, whether it is taken or not.
    pub(crate) fn finish(&mut self, data: &[u8], mut emit: impl FnMut(Piece<'_>)) {
        let used = self.cut(data, |piece| {
            emit(piece);
            true
        });
        self.take(&data[used..]);
        if !self.carry.is_empty() {
            emit(Piece { bytes: &self.carry, continues: self.continues, ends: true });
        }
        self.carry = Vec::new();
        self.continues = false;
    }

    /// One entry from the front of `data`, with nothing carried.
    fn cut_from(&mut self, data: &[u8], emit: &mut impl FnMut(Piece<'_>) -> bool) -> usize {
        let window = &data[..data.len().min(PART)];
        let (length, whole) = match newline(window) {
            Some(at) => (at + 1, true),
            None if window.len() == PART => (char_boundary(window), false),
            None => return 0,
        };
        if !emit(Piece { bytes: &data[..length], continues: self.continues, ends: whole }) {
            return 0;
        }
        self.continues = !whole;
        length
    }

    /// One entry that begins with what is carried.
    fn cut_carried(&mut self, data: &[u8], emit: &mut impl FnMut(Piece<'_>) -> bool) -> usize {
        let carried = self.carry.len();
        let room = PART.saturating_sub(carried);
        let window = &data[..data.len().min(room)];
        let (taken, whole) = match newline(window) {
            Some(at) => (at + 1, true),
            None if window.len() < room => return 0,
            None => (window.len(), false),
        };
        self.carry.extend_from_slice(&window[..taken]);
        let length = if whole { self.carry.len() } else { char_boundary(&self.carry) };
        let piece = Piece { bytes: &self.carry[..length], continues: self.continues, ends: whole };
        if !emit(piece) {
            self.carry.truncate(carried);
            return 0;
        }
        self.carry.drain(..length);
        self.continues = !whole;
        taken
    }
}

fn newline(bytes: &[u8]) -> Option<usize> {
    memchr::memchr(b'\n', bytes)
}

/// Where to cut `bytes` so that no character is torn in two: at its end, or up to three bytes before.
///
/// (dockerd cuts through characters, and its readers get two broken ones.)
fn char_boundary(bytes: &[u8]) -> usize {
    let tail = bytes.len().saturating_sub(3);
    for at in (tail..bytes.len()).rev() {
        let needs = match bytes[at] {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => 1,
        };
        return if at + needs > bytes.len() && at > 0 { at } else { bytes.len() };
    }
    bytes.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cut `input` as it comes in reads of `step` bytes, taking the rest into memory each time if `take`.
    fn pieces(input: &[u8], step: usize, take: bool) -> Vec<(Vec<u8>, bool)> {
        let mut cutter = Cutter::default();
        let mut out = Vec::new();
        let mut pending: Vec<u8> = Vec::new();
        for read in input.chunks(step) {
            pending.extend_from_slice(read);
            // A log that is busy takes nothing the first time.
            assert_eq!(cutter.cut(&pending, |_| false), 0);
            let used = cutter.cut(&pending, |piece| {
                out.push((piece.bytes.to_vec(), piece.continues));
                true
            });
            pending.drain(..used);
            assert!(pending.len() + cutter.carried().len() < PART);
            if take {
                cutter.take(&pending);
                pending.clear();
            }
        }
        cutter.finish(&pending, |piece| out.push((piece.bytes.to_vec(), piece.continues)));
        out
    }

    #[test]
    fn the_same_entries_however_the_output_is_read() {
        let mut input = b"one\n\ntwo\r\n".to_vec();
        input.extend(std::iter::repeat_n(b'x', 3 * PART - 5));
        input.extend(b"\nlast without newline");
        let expected = pieces(&input, input.len(), false);
        let lengths: Vec<_> =
            expected.iter().map(|(bytes, continues)| (bytes.len(), *continues)).collect();
        let tail = (PART - 4, true);
        assert_eq!(
            lengths,
            [(4, false), (1, false), (5, false), (PART, false), (PART, true), tail, (20, false)]
        );
        for step in [1, 7, 100, PART - 1, PART, PART + 1, 40_000] {
            for take in [false, true] {
                assert_eq!(pieces(&input, step, take), expected, "step {step}, take {take}");
            }
        }
    }

    #[test]
    fn a_line_of_exactly_one_part_ends_with_a_lone_newline_as_at_dockerd() {
        let mut input = vec![b'x'; PART];
        input.push(b'\n');
        let got = pieces(&input, 4096, false);
        assert_eq!(got.len(), 2);
        assert_eq!(got[1], (b"\n".to_vec(), true));
    }

    #[test]
    fn no_character_is_torn() {
        for filler in 0..4 {
            let text = "x".repeat(filler) + &"😀é€".repeat(4000);
            for (step, take) in [(usize::MAX, false), (1000, false), (1000, true), (1, true)] {
                let got = pieces(text.as_bytes(), step.min(text.len()), take);
                assert!(got.iter().all(|(bytes, _)| std::str::from_utf8(bytes).is_ok()));
                assert_eq!(got.concat_bytes(), text.as_bytes());
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text_are_cut_too() {
        let input = vec![0xf0u8; 2 * PART + 3];
        let got = pieces(&input, 5000, true);
        assert_eq!(got.concat_bytes(), input);
        assert!(got.iter().all(|(bytes, _)| bytes.len() <= PART));
    }

    trait ConcatBytes {
        fn concat_bytes(&self) -> Vec<u8>;
    }

    impl ConcatBytes for Vec<(Vec<u8>, bool)> {
        fn concat_bytes(&self) -> Vec<u8> {
            self.iter().flat_map(|(bytes, _)| bytes.clone()).collect()
        }
    }
}
