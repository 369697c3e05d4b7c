//! The client against a real registry, and against one that misbehaves on purpose.
//!
//! The real one is Debian's `docker-registry`, on loopback, with a folder of its own. The other is a
//! few lines that answer as each test says. What cannot run on a machine is said on stderr as
//! `SKIPPED test: reason`.

#[cfg(test)]
mod live {
    mod auth;
    mod distribution;
    mod faults;
    mod lies;
    mod mirrors;
    mod plain_http;
    mod scripted;
    mod server;
    mod setting;
    mod uploads;
}
