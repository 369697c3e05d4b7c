//! Lower-case hexadecimal text: the alphabet of every id.

/// The hex digits of `bytes`, two per byte.
pub(crate) fn encode(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 0x0f)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Only `0`–`9` and `a`–`f`; also true for the empty text.
pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// A full id: 64 lower-case hex digits.
pub(crate) fn is_full_id(text: &str) -> bool {
    text.len() == 64 && is_lower_hex(text)
}

/// The first twelve bytes of an ASCII id, or all of a shorter one: how Docker shows ids to people.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_become_two_lower_case_digits_each() {
        assert_eq!(encode(&[0x00, 0x0f, 0xa0, 0xff]), "000fa0ff");
    }

    #[test]
    fn only_lower_case_counts() {
        assert!(is_lower_hex("09af"));
        assert!(!is_lower_hex("09AF"));
        assert!(!is_lower_hex("0g"));
    }

    #[test]
    fn short_form_of_a_short_text_is_the_text() {
        assert_eq!(short("abc"), "abc");
        assert_eq!(short("0123456789abcdef"), "0123456789ab");
    }
}
