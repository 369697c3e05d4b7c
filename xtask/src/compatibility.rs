//! COMPATIBILITY.md: what is built and what is not, out of the code that decides it.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, ensure};

const ROUTES: &str = "crates/nerdctld/src/api/routes.rs";
const FIELDS: &str = "crates/nerdctld/src/api/containers/create/fields.rs";
const ALL_FIELDS: &str = "crates/nerdctld/src/api/containers/create/fields-1.55.txt";
const TARGET: &str = "COMPATIBILITY.md";
const HEAD: &str = include_str!("compatibility.md");

/// Write the page.
pub(crate) fn write() -> anyhow::Result<String> {
    std::fs::write(TARGET, page()?).with_context(|| format!("write {TARGET}"))?;
    Ok(format!("{TARGET} is written"))
}

/// Compare the page with the code.
pub(crate) fn check() -> anyhow::Result<String> {
    let is = std::fs::read_to_string(TARGET).with_context(|| format!("read {TARGET}"))?;
    ensure!(is == page()?, "{TARGET} is stale: run cargo xtask compatibility");
    Ok(format!("{TARGET} says what the code does"))
}

fn page() -> anyhow::Result<String> {
    let routes = routes(&read(ROUTES)?);
    ensure!(
        routes.len() > 100,
        "{ROUTES}: found {} routes, the table has changed its form",
        routes.len()
    );
    let understood = understood(&read(FIELDS)?);
    ensure!(understood.len() > 20, "{FIELDS}: found {} fields", understood.len());
    Ok(render(&routes, &understood, &all_fields(&read(ALL_FIELDS)?)))
}

fn read(path: &str) -> anyhow::Result<String> {
    std::fs::read_to_string(Path::new(path)).with_context(|| format!("read {path}"))
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Endpoint {
    method: String,
    path: String,
    answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Answer {
    Built,
    NotBuilt,
    Refused,
}

/// The table has one endpoint a line: `get   ("/images/json", |call| Box::pin(images::list(call))),`.
fn routes(text: &str) -> Vec<Endpoint> {
    text.lines().filter_map(endpoint).collect()
}

fn endpoint(line: &str) -> Option<Endpoint> {
    let (method, rest) = line.trim().split_once('(')?;
    let method = method.trim();
    if !["get", "head", "post", "put", "delete"].contains(&method) {
        return None;
    }
    let path = rest.split('"').nth(1)?.replace("*}", "}");
    let handler = rest.split("Box::pin(").nth(1)?.split('(').next()?;
    let answer = match handler {
        "unsupported::not_built" => Answer::NotBuilt,
        // A list of no plugins is an answer, not a refusal.
        "unsupported::plugin_list" => Answer::Built,
        _ if handler.starts_with("unsupported::") => Answer::Refused,
        _ => Answer::Built,
    };
    Some(Endpoint { method: method.to_uppercase(), path, answer })
}

/// First strings of the table's entries: `("Tty", Any),` on one line, or the name alone on the first of several.
fn understood(text: &str) -> BTreeSet<String> {
    let table = text
        .split("static ACCEPTED")
        .nth(1)
        .and_then(|rest| rest.split("\n];").next())
        .unwrap_or_default();
    let entries = table
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("(\"") || line.starts_with('"'));
    entries.filter_map(|line| line.split('"').nth(1)).map(str::to_owned).collect()
}

fn all_fields(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
}

fn render(routes: &[Endpoint], understood: &BTreeSet<String>, all: &[String]) -> String {
    let mut page = HEAD.to_owned();
    let titles = [
        (Answer::Built, "Endpoints that are built"),
        (Answer::NotBuilt, "Endpoints that answer 501"),
        (Answer::Refused, "Endpoints that are refused as Docker refuses them"),
    ];
    for (answer, title) in titles {
        let chosen: Vec<&Endpoint> = routes.iter().filter(|route| route.answer == answer).collect();
        // Writing to a String cannot fail.
        let _ = writeln!(page, "## {title} ({})\n", chosen.len());
        for route in chosen {
            let _ = writeln!(page, "- `{} {}`", route.method, route.path);
        }
        page.push('\n');
    }
    let refused: Vec<&String> =
        all.iter().filter(|field| !is_understood(field, understood)).collect();
    let _ = writeln!(
        page,
        "## Fields of `POST /containers/create`\n\nUnderstood, some with Docker's default only:\n"
    );
    let _ = writeln!(page, "{}\n", quoted(understood.iter()));
    let _ = writeln!(
        page,
        "Refused by name with 501 when they are set ({}):\n\n{}",
        refused.len(),
        quoted(refused.into_iter())
    );
    page
}

/// The field, or one above or below it, is in the table.
fn is_understood(field: &str, understood: &BTreeSet<String>) -> bool {
    understood.iter().any(|known| {
        known == field
            || field.starts_with(&format!("{known}."))
            || known.starts_with(&format!("{field}."))
    })
}

fn quoted<'a>(names: impl Iterator<Item = &'a String>) -> String {
    names.map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_the_table_is_an_endpoint() {
        let line = r#"    post  ("/containers/{id*}/exec",  |call| Box::pin(unsupported::not_built(call))),"#;
        let expected = Endpoint {
            method: "POST".into(),
            path: "/containers/{id}/exec".into(),
            answer: Answer::NotBuilt,
        };
        assert_eq!(endpoint(line), Some(expected));
        let line =
            r#"    get   ("/secrets", |call| Box::pin(unsupported::swarm(call))).since(1, 25),"#;
        assert_eq!(endpoint(line).unwrap().answer, Answer::Refused);
        assert_eq!(endpoint("    // Containers"), None);
    }

    #[test]
    fn fields_are_read_from_both_forms_of_entry() {
        let text = "static ACCEPTED: &[X] = &[\n    (\"Tty\", Any),\n    (\n        \"HostConfig.NetworkMode\",\n        Only(|given| [\"bridge\"]),\n    ),\n];\n";
        assert_eq!(understood(text), ["HostConfig.NetworkMode", "Tty"].map(str::to_owned).into());
    }
}
