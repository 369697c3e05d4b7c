//! Docker's JSON, query, filter and stream formats, byte for byte.
