//! `GET /readyz`: whether work may be sent here, and which neighbour is missing. Ours, not Docker's.

use engine::system::Neighbour;
use http::StatusCode;
use serde::Serialize;

use super::call::{Answer, Call};
use super::reply::Reply;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    neighbours: Vec<NeighbourView>,
}

#[derive(Serialize)]
struct NeighbourView {
    name: &'static str,
    ready: bool,
    needed: bool,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trouble: Option<String>,
}

/// `GET /readyz`: 200 when every needed neighbour answers, else 503; the same JSON for both.
pub(super) async fn ready(call: Call) -> Answer {
    let readiness = view(call.engine.neighbours().await);
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(Reply::json_with(status, &readiness))
}

fn view(neighbours: Vec<Neighbour>) -> Readiness {
    let ready = neighbours.iter().all(|one| one.trouble.is_none() || !one.needed);
    let neighbours = neighbours.into_iter().map(|one| NeighbourView {
        name: one.name,
        ready: one.trouble.is_none(),
        needed: one.needed,
        detail: one.detail,
        trouble: one.trouble,
    });
    Readiness { ready, neighbours: neighbours.collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn neighbour(needed: bool, trouble: Option<&str>) -> Neighbour {
        let trouble = trouble.map(str::to_owned);
        Neighbour { name: "n", needed, detail: String::new(), trouble }
    }

    #[test]
    fn only_needed_neighbours_count() {
        assert!(view(vec![neighbour(true, None), neighbour(false, Some("gone"))]).ready);
        assert!(!view(vec![neighbour(false, None), neighbour(true, Some("gone"))]).ready);
    }
}
