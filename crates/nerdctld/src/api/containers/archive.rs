//! `/containers/{id}/archive` and `/export`: files of a container as tar archives, in both directions.

use docker_wire::containers::{PathStat, go_file_mode};
use docker_wire::time;
use engine::containers::archive::{self, Compression, WriteOptions};
use http::header::{CONTENT_ENCODING, HeaderName, HeaderValue};

use crate::api::call::{Answer, Call};
use crate::api::error::Refusal;
use crate::api::reply::Reply;

/// What is at the path, for clients that decide by it where to put things.
const PATH_STAT: HeaderName = HeaderName::from_static("x-docker-container-path-stat");

/// `HEAD /containers/{id}/archive`.
pub(in crate::api) async fn stat(call: Call) -> Answer {
    let stat = call.engine.stat_container_path(call.parameter("id"), path(&call)?).await?;
    Ok(Reply::empty(http::StatusCode::OK).with(PATH_STAT, stat_header(stat)))
}

/// `GET /containers/{id}/archive`.
pub(in crate::api) async fn read(call: Call) -> Answer {
    let compression = accepted(call.header("accept-encoding"));
    let (stat, archive) =
        call.engine.read_container_archive(call.parameter("id"), path(&call)?, compression).await?;
    let reply = Reply::stream("application/x-tar", archive).with(PATH_STAT, stat_header(stat));
    Ok(match compression {
        Compression::Identity => reply,
        Compression::Gzip => reply.with(CONTENT_ENCODING, HeaderValue::from_static("gzip")),
        Compression::Deflate => reply.with(CONTENT_ENCODING, HeaderValue::from_static("deflate")),
    })
}

/// `PUT /containers/{id}/archive`. The type that the client gives is not asked: the archive says what it is.
pub(in crate::api) async fn write(call: Call) -> Answer {
    let options = WriteOptions {
        no_overwrite_dir_non_dir: call.query.flag("noOverwriteDirNonDir"),
        copy_uid_gid: call.query.flag("copyUIDGID"),
    };
    let body = call.body.clone().into_stream();
    call.engine.write_container_archive(call.parameter("id"), path(&call)?, options, body).await?;
    Ok(Reply::empty(http::StatusCode::OK))
}

/// `GET /containers/{id}/export`.
pub(in crate::api) async fn export(call: Call) -> Answer {
    let archive = call.engine.export_container(call.parameter("id")).await?;
    Ok(Reply::stream("application/octet-stream", archive))
}

/// moby `daemon/server/httputils/form.go`, `ArchiveFormValues`.
fn path(call: &Call) -> Result<&str, Refusal> {
    let given = call.query.text("path");
    // No path of Linux has a zero byte.
    if given.contains('\0') {
        return Err(Refusal::BadParameter("bad parameter: path contains a zero byte".to_owned()));
    }
    if given.is_empty() {
        return Err(Refusal::BadParameter("bad parameter: path cannot be empty".to_owned()));
    }
    Ok(given)
}

fn stat_header(stat: archive::PathStat) -> HeaderValue {
    let stat = PathStat {
        name: stat.name,
        size: stat.size,
        mode: go_file_mode(stat.mode),
        mtime: time::rfc3339_nano(stat.modified),
        link_target: stat.link_target,
    };
    // Base64 of our own type: this cannot fail.
    stat.to_header()
        .ok()
        .and_then(|text| HeaderValue::try_from(text).ok())
        .unwrap_or(HeaderValue::from_static(""))
}

/// The best encoding that the client takes and dockerd has (moby `daemon/server/router/container/copy.go`).
fn accepted(header: &str) -> Compression {
    let mut best = (Compression::Identity, 0.0);
    for offer in header.split(',') {
        let mut parts = offer.split(';').map(str::trim);
        let compression = match parts.next() {
            Some("gzip") => Compression::Gzip,
            Some("deflate") => Compression::Deflate,
            Some("identity") => Compression::Identity,
            _ => continue,
        };
        let weight = parts.find_map(|part| part.strip_prefix("q=")?.parse().ok()).unwrap_or(1.0);
        if weight > best.1 {
            best = (compression, weight);
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encodings_are_used_only_when_they_are_asked_for() {
        for (header, expected) in [
            ("", Compression::Identity),
            ("br", Compression::Identity),
            ("gzip", Compression::Gzip),
            ("deflate, gzip;q=0.5", Compression::Deflate),
            ("identity, gzip;q=0.5", Compression::Identity),
            ("gzip;q=0", Compression::Identity),
            ("*", Compression::Identity),
        ] {
            assert_eq!(accepted(header), expected, "{header}");
        }
    }
}
