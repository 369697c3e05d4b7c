//! The bodies that many endpoints share: an error, an id.

use serde::Serialize;

/// The body of every failure: `{"message":"…"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ErrorResponse {
    /// What went wrong, for people; some clients search in it.
    pub message: String,
}

/// The body of answers that only name what was made: exec create and commit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct IdResponse {
    /// The id of the new thing.
    #[serde(rename = "Id")]
    pub id: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::to_vec_line;

    #[test]
    fn spelling() {
        let error = ErrorResponse { message: "No such container: web".to_owned() };
        assert_eq!(to_vec_line(&error).unwrap(), b"{\"message\":\"No such container: web\"}\n");
        let id = IdResponse { id: "sha256:ab".to_owned() };
        assert_eq!(to_vec_line(&id).unwrap(), b"{\"Id\":\"sha256:ab\"}\n");
    }
}
