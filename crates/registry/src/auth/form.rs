//! `application/x-www-form-urlencoded`, for token requests.

/// Pairs, encoded as they are added.
#[derive(Default)]
pub(crate) struct Form(String);

impl Form {
    /// Adds a pair.
    pub(crate) fn pair(&mut self, name: &str, value: &str) -> &mut Self {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        encode_into(&mut self.0, name);
        self.0.push('=');
        encode_into(&mut self.0, value);
        self
    }

    /// The encoded text.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            _ => {
                out.push('%');
                for digit in [byte >> 4, byte & 0xf] {
                    out.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_could_end_a_pair_is_escaped() {
        let mut form = Form::default();
        form.pair("scope", "repository:a/b:pull,push").pair("password", "p&=+ %ä");
        assert_eq!(
            form.finish(),
            "scope=repository%3Aa%2Fb%3Apull%2Cpush&password=p%26%3D%2B%20%25%C3%A4"
        );
    }
}
