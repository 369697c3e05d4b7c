//! Docker requests as tests write them, on top of [`crate::http`].

use std::io::BufReader;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use crate::frames::{self, Output};
use crate::http::{Connection, Head, Request, Response, Stream};
use crate::unique;

/// The image that most tests use.
pub const BUSYBOX: &str = "busybox:latest";

/// A daemon's socket and the API version to speak.
#[derive(Debug, Clone)]
pub struct Api {
    socket: PathBuf,
    prefix: String,
}

impl Api {
    /// The daemon at a socket; paths without a version mean its newest.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_path_buf(), prefix: String::new() }
    }

    /// The same daemon, asked in an older version.
    #[must_use]
    pub fn at(&self, version: &str) -> Self {
        Self { socket: self.socket.clone(), prefix: format!("/v{version}") }
    }

    /// The daemon's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the daemon answers `_ping` with 200 right now.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.get("/_ping").is_ok_and(|response| response.status() == 200)
    }

    /// A request to a path, to be sent by [`Api::send`], [`Api::stream`] or [`Api::hijack`].
    #[must_use]
    pub fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, format!("{}{path}", self.prefix))
    }

    /// A new connection.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(&self) -> Result<Connection> {
        Connection::open(&self.socket)
    }

    /// Sends a request on a connection of its own and reads the response.
    ///
    /// # Errors
    /// When none comes.
    pub fn send(&self, request: &Request) -> Result<Response> {
        self.connect()?.roundtrip(request)
    }

    /// Sends a request and reads only the head of the response.
    ///
    /// # Errors
    /// When none comes.
    pub fn stream(&self, request: &Request) -> Result<Stream> {
        let mut connection = self.connect()?;
        connection.send(request)?;
        let head = connection.head()?;
        Ok(connection.into_stream(head))
    }

    /// Sends a request that takes the connection over; the connection is given if the status is 101 or 200.
    ///
    /// # Errors
    /// With the body, if the status is another.
    pub fn hijack(&self, request: &Request) -> Result<(Head, BufReader<UnixStream>)> {
        let mut connection = self.connect()?;
        connection.send(request)?;
        let head = connection.head()?;
        if !matches!(head.status, 101 | 200) {
            let body = connection.body(&head, "POST")?;
            anyhow::bail!("no hijack: {} {}", head.status, String::from_utf8_lossy(&body));
        }
        Ok((head, connection.into_raw()))
    }

    /// GET.
    ///
    /// # Errors
    /// When no response comes.
    pub fn get(&self, path: &str) -> Result<Response> {
        self.send(&self.request("GET", path))
    }

    /// GET of JSON that must succeed.
    ///
    /// # Errors
    /// When the status is not 200 or the body not JSON.
    pub fn get_json(&self, path: &str) -> Result<Value> {
        self.get(path)?.expect(200).with_context(|| format!("GET {path}"))?.json()
    }

    /// POST without a body.
    ///
    /// # Errors
    /// When no response comes.
    pub fn post(&self, path: &str) -> Result<Response> {
        self.send(&self.request("POST", path))
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// When no response comes.
    pub fn post_json(&self, path: &str, body: &Value) -> Result<Response> {
        self.send(&self.request("POST", path).json(body))
    }

    /// DELETE.
    ///
    /// # Errors
    /// When no response comes.
    pub fn delete(&self, path: &str) -> Result<Response> {
        self.send(&self.request("DELETE", path))
    }

    /// Pulls an image and gives the messages; an error message in the stream is an error.
    ///
    /// # Errors
    /// With the daemon's words.
    pub fn pull(&self, image: &str) -> Result<Vec<Value>> {
        let (name, tag) = split_tag(image);
        let request = self.request("POST", &format!("/images/create?fromImage={name}&tag={tag}"));
        pull_messages(&self.send(&request)?.expect(200)?)
    }

    /// Makes sure that an image is there.
    ///
    /// # Errors
    /// When it cannot be pulled.
    pub fn have(&self, image: &str) -> Result<()> {
        if self.get(&format!("/images/{image}/json"))?.status() != 200 {
            self.pull(image).with_context(|| format!("pulling {image}"))?;
        }
        Ok(())
    }

    /// Creates a container of busybox from the fields of `body`; it is removed when the value is dropped.
    ///
    /// # Errors
    /// With the daemon's words.
    pub fn create(&self, body: Value) -> Result<Container> {
        self.create_named(&unique("c"), body)
    }

    /// The same with a name.
    ///
    /// # Errors
    /// With the daemon's words.
    pub fn create_named(&self, name: &str, mut body: Value) -> Result<Container> {
        if body.get("Image").is_none() {
            self.have(BUSYBOX)?;
            body["Image"] = json!(BUSYBOX);
        }
        let response = self
            .post_json(&format!("/containers/create?name={name}"), &body)?
            .expect(201)?
            .json()?;
        let id = response["Id"].as_str().context("create answers without Id")?.to_owned();
        Ok(Container { api: self.clone(), id, name: name.to_owned() })
    }

    /// A container that somebody else made; it is removed when the value is dropped.
    #[must_use]
    pub fn adopt(&self, id: &str, name: &str) -> Container {
        Container { api: self.clone(), id: id.to_owned(), name: name.to_owned() }
    }

    /// Creates and starts a container that runs a shell script without a network.
    ///
    /// # Errors
    /// With the daemon's words.
    pub fn run_script(&self, script: &str) -> Result<Container> {
        let container = self.create(script_body(script))?;
        container.start()?;
        Ok(container)
    }
}

/// The body of a container that runs a shell script without a network.
#[must_use]
pub fn script_body(script: &str) -> Value {
    json!({"Cmd": ["sh", "-c", script], "HostConfig": {"NetworkMode": "none"}})
}

/// Messages of a progress stream.
///
/// # Errors
/// The first error message in it.
pub fn pull_messages(response: &Response) -> Result<Vec<Value>> {
    let messages: Vec<Value> = serde_json::Deserializer::from_slice(&response.body)
        .into_iter()
        .collect::<Result<_, _>>()
        .with_context(|| format!("not a progress stream: {}", response.text()))?;
    if let Some(error) = messages.iter().find_map(|message| message.get("error")) {
        anyhow::bail!("{}", error.as_str().unwrap_or_default());
    }
    Ok(messages)
}

/// Percent-encodes all but letters, digits and `-._~`.
#[must_use]
pub fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// A `filters=` query in the form of Go's clients: `{"label":{"a=b":true}}`.
#[must_use]
pub fn filters(of: &[(&str, &str)]) -> String {
    let mut object = serde_json::Map::new();
    for (key, value) in of {
        object.entry(*key).or_insert_with(|| json!({}))[*value] = json!(true);
    }
    format!("filters={}", encode(&Value::Object(object).to_string()))
}

fn split_tag(image: &str) -> (&str, &str) {
    match image.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (image, "latest"),
    }
}

/// An image that is removed, by force, when this is dropped.
#[derive(Debug)]
pub struct Image {
    /// Requests to the daemon it lives in.
    pub api: Api,
    /// A name, or its id.
    pub name: String,
}

impl Drop for Image {
    fn drop(&mut self) {
        // It may have gone already: tests remove, too.
        let _ = self.api.delete(&format!("/images/{}?force=1", self.name));
    }
}

/// A container that is removed, by force, when this is dropped.
#[derive(Debug)]
pub struct Container {
    api: Api,
    /// Its id, 64 hex digits.
    pub id: String,
    /// Its name, without a slash.
    pub name: String,
}

impl Container {
    /// Requests to the daemon it lives in.
    #[must_use]
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// `/containers/ID` + `rest`.
    #[must_use]
    pub fn path(&self, rest: &str) -> String {
        format!("/containers/{}{rest}", self.id)
    }

    /// POST to it.
    ///
    /// # Errors
    /// When no response comes.
    pub fn post(&self, rest: &str) -> Result<Response> {
        self.api.post(&self.path(rest))
    }

    /// Starts it.
    ///
    /// # Errors
    /// When the status is not 204.
    pub fn start(&self) -> Result<()> {
        self.post("/start")?.expect(204).context("start")?;
        Ok(())
    }

    /// Waits until it does not run and gives its exit code.
    ///
    /// # Errors
    /// When the daemon does not know.
    pub fn wait(&self) -> Result<i64> {
        let answer = self.post("/wait")?.expect(200).context("wait")?.json()?;
        ensure!(answer.get("Error").is_none_or(Value::is_null), "wait: {answer}");
        answer["StatusCode"].as_i64().with_context(|| format!("wait: {answer}"))
    }

    /// Its description.
    ///
    /// # Errors
    /// When there is none.
    pub fn inspect(&self) -> Result<Value> {
        self.api.get_json(&self.path("/json"))
    }

    /// `State.Status` of its description.
    ///
    /// # Errors
    /// As [`Container::inspect`].
    pub fn status(&self) -> Result<String> {
        Ok(self.inspect()?["State"]["Status"].as_str().unwrap_or_default().to_owned())
    }

    /// Its row in the list of all, if there.
    ///
    /// # Errors
    /// When the list cannot be had.
    pub fn listed(&self) -> Result<Option<Value>> {
        let list = self.api.get_json("/containers/json?all=1")?;
        Ok(list.as_array().into_iter().flatten().find(|row| row["Id"] == self.id.as_str()).cloned())
    }

    /// What it has written so far. `query` may add to `stdout=1&stderr=1`.
    ///
    /// # Errors
    /// When the stream is not one of frames.
    pub fn logs(&self, query: &str) -> Result<Output> {
        let response =
            self.api.get(&self.path(&format!("/logs?stdout=1&stderr=1{query}")))?.expect(200)?;
        frames::all(&mut response.body.as_slice())
    }

    /// Attaches with `query` (`stream=1&stdout=1`, …) as clients do that upgrade.
    ///
    /// # Errors
    /// When the daemon refuses.
    pub fn attach(&self, query: &str) -> Result<(Head, BufReader<UnixStream>)> {
        let request =
            self.api.request("POST", &self.path(&format!("/attach?{query}"))).upgrade("tcp");
        self.api.hijack(&request)
    }

    /// Waits until its output has `text`.
    ///
    /// # Errors
    /// When it has not for long.
    pub fn until_logged(&self, text: &str) -> Result<()> {
        crate::sandbox::until(Duration::from_secs(30), &format!("output {text:?}"), || {
            self.logs("").is_ok_and(|output| output.text().contains(text))
        })
    }

    /// Removes it.
    ///
    /// # Errors
    /// When the status is not 204.
    pub fn remove(&self) -> Result<()> {
        self.api.delete(&self.path("?force=1&v=1"))?.expect(204)?;
        Ok(())
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        // It may have gone already: tests remove, too.
        let _ = self.api.delete(&self.path("?force=1&v=1"));
    }
}
