//! Building containerd filters.
//!
//! A filter is `field==value`, several joined by commas mean AND, several filters mean OR
//! (containerd `filters/parser.go`). Values and odd field names are quoted as Go strings.

/// `field==value`. The field is written as is: `id`, `namespace`, `event.container_id`.
#[must_use]
pub fn equals(field: &str, value: &str) -> String {
    format!("{field}=={}", quoted(value))
}

/// `labels."key"==value`.
#[must_use]
pub fn label(key: &str, value: &str) -> String {
    format!("labels.{}=={}", quoted(key), quoted(value))
}

/// The label is there, whatever its value.
#[must_use]
pub fn has_label(key: &str) -> String {
    format!("labels.{}", quoted(key))
}

/// Both filters.
#[must_use]
pub fn and(first: &str, second: &str) -> String {
    format!("{first},{second}")
}

fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_values_are_quoted() {
        assert_eq!(equals("namespace", "default"), "namespace==\"default\"");
        assert_eq!(label("nerdctl/name", "a\"b\\c"), r#"labels."nerdctl/name"=="a\"b\\c""#);
        assert_eq!(and(&has_label("x"), &equals("id", "y")), r#"labels."x",id=="y""#);
    }
}
