//! Words of an instruction: quotes, backslashes, variables.

use super::bad;
use crate::images::run_config::name_of;
use crate::{Error, Result};

/// Bytes of a value with its variables replaced: more is no use to any process, and a few doublings are gigabytes.
pub(super) const MAX_EXPANDED: usize = 1 << 20;

/// Splits at blanks outside of quotes; quotes and backslashes stay.
pub(super) fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut characters = text.chars();
    while let Some(next) = characters.next() {
        match (next, quote) {
            (' ' | '\t', None) => {
                if !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                continue;
            }
            ('\\', None | Some('"')) => {
                word.push(next);
                word.extend(characters.next());
                continue;
            }
            ('"' | '\'', None) => quote = Some(next),
            (end, Some(begun)) if end == begun => quote = None,
            _ => {}
        }
        word.push(next);
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// `a=b c=d`; or `a b c`, which is one pair.
pub(super) fn pairs(instruction: &str, text: &str) -> Result<Vec<(String, String)>> {
    let words = words(text);
    let first = words.first().map(String::as_str).unwrap_or_default();
    if !first.contains('=') {
        let (name, value) = text
            .split_once(char::is_whitespace)
            .ok_or_else(|| bad(format!("{instruction} must have two arguments")))?;
        return Ok(vec![(name.to_owned(), value.trim_start().to_owned())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(bad(format!(
            "Syntax error - can't find = in {word:?}. Must be of the form: name=value"
        ))),
    };
    words.into_iter().map(pair).collect()
}

/// Takes quotes and backslashes away and puts the values of variables in.
pub(super) fn expand(text: &str, env: &[String]) -> Result<String> {
    let mut expanded = String::new();
    let mut rest = text.chars().peekable();
    let mut quote = None;
    while let Some(next) = rest.next() {
        match (next, quote) {
            ('\'', None) => quote = Some('\''),
            ('"', None) => quote = Some('"'),
            ('\'', Some('\'')) | ('"', Some('"')) => quote = None,
            (other, Some('\'')) => expanded.push(other),
            ('\\', Some('"')) => match rest.peek() {
                Some('"' | '$' | '\\') => expanded.extend(rest.next()),
                _ => expanded.push('\\'),
            },
            ('\\', _) => expanded.extend(rest.next()),
            ('$', _) => expanded.push_str(&variable(&mut rest, env)?),
            (other, _) => expanded.push(other),
        }
        if expanded.len() > MAX_EXPANDED {
            return Err(too_long());
        }
    }
    match quote {
        None => Ok(expanded),
        Some(quote) => Err(bad(format!(
            "unexpected end of statement while looking for matching {}-quote",
            if quote == '"' { "double" } else { "single" }
        ))),
    }
}

/// What is too long for [`MAX_EXPANDED`].
pub(super) fn too_long() -> Error {
    bad(format!("with its variables replaced, a value has more than {MAX_EXPANDED} bytes"))
}

/// `NAME`, `{NAME}`, `{NAME:-word}` or `{NAME:+word}` behind a dollar sign.
fn variable(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, env: &[String]) -> Result<String> {
    let value = |name: &str| {
        let pair = env.iter().find(|pair| name_of(pair) == name)?;
        pair.split_once('=').map(|(_, value)| value.to_owned())
    };
    let is_name = |next: &char| next.is_ascii_alphanumeric() || *next == '_';
    if rest.next_if_eq(&'{').is_none() {
        let mut name = String::new();
        while let Some(next) = rest.next_if(is_name) {
            name.push(next);
        }
        return Ok(if name.is_empty() { "$".to_owned() } else { value(&name).unwrap_or_default() });
    }
    let mut inner = String::new();
    loop {
        match rest.next() {
            Some('}') => break,
            Some(next) => inner.push(next),
            None => return Err(bad("syntax error: missing '}'")),
        }
    }
    let end = inner.find(|next: char| !is_name(&next)).unwrap_or(inner.len());
    let (name, modifier) = inner.split_at(end);
    let found = value(name).filter(|value| !value.is_empty());
    match (modifier.get(..2), modifier.get(2..)) {
        _ if modifier.is_empty() => Ok(value(name).unwrap_or_default()),
        (Some(":-"), Some(word)) => found.map_or_else(|| expand(word, env), Ok),
        (Some(":+"), Some(word)) => found.map_or(Ok(String::new()), |_| expand(word, env)),
        _ => Err(bad(format!("unsupported modifier ({modifier}) in substitution"))),
    }
}
