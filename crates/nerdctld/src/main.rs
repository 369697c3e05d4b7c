//! The daemon: modes, configuration, listeners, the Docker Engine API.
fn main() {}
