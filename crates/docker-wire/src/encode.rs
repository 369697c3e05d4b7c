//! JSON out: compact, `<` `>` `&` as they are, a newline at the end.
//!
//! Source: moby `daemon/server/httputils/httputils.go` (`WriteJSON`): Go's encoder with HTML escaping off.

use serde::Serialize;

/// The value as compact JSON and a newline: the body of every JSON answer, and one line of a JSON stream.
///
/// # Errors
/// Only a `Serialize` that fails by itself; those of this crate do not.
pub fn to_vec_line<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, serde_json::Error> {
    let mut json = serde_json::to_vec(value)?;
    json.push(b'\n');
    Ok(json)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn angle_brackets_stay_readable() {
        let map = BTreeMap::from([("b", "<none>:<none> & more"), ("a", "ä")]);
        assert_eq!(
            to_vec_line(&map).unwrap(),
            "{\"a\":\"ä\",\"b\":\"<none>:<none> & more\"}\n".as_bytes()
        );
    }
}
