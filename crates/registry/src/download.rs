//! Something with an address, wherever it is: what `docker import` takes, what a search finds.

use bytes::Bytes;
use http::Method;
use http::header::CONTENT_LENGTH;
use tokio::time::Instant;

use crate::error::Error;
use crate::http::{Request, Response};
use crate::pace::Pace;
use crate::tls::{TlsSettings, Trust};
use crate::url::Url;
use crate::{Answer, Registry};

/// A download under way. Dropping it ends it and closes its connection.
#[derive(Debug)]
pub struct Download {
    response: Response,
    pace: Pace,
}

impl Registry {
    /// Asks for what is at `http://…` or `https://…`, with no credentials, through the proxies. Redirects are followed.
    ///
    /// # Errors
    /// [`Error::Address`] for one that is none; [`Error::NotFound`], [`Error::Status`] as the server answers;
    /// [`Error::Unreachable`], [`Error::Tls`], [`Error::Interrupted`].
    pub async fn download(&self, address: &str) -> Result<Download, Error> {
        let url = Url::parse(address)?;
        let trust = Trust::new(TlsSettings::default(), &url);
        let response = self.http().send(&trust, &Request::new(Method::GET, url)).await?;
        let status = response.status.as_u16();
        match status {
            200..=299 => Ok(Download { response, pace: Pace::default() }),
            404 => {
                Err(Error::NotFound { what: response.request.clone(), answer: Answer::default() })
            }
            _ => {
                let request = response.request.clone();
                let answer = response.answer().await;
                Err(Error::Status { request, status, answer, retry_after: None })
            }
        }
    }
}

impl Download {
    /// Bytes in all, if the server says so.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        self.response.header(CONTENT_LENGTH)?.parse().ok()
    }

    /// The next bytes; `None` at the end.
    ///
    /// # Errors
    /// [`Error::Interrupted`], also if hardly anything comes for minutes.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Error> {
        let asked = Instant::now();
        let Some(chunk) = self.response.chunk().await? else { return Ok(None) };
        let kept_up = self.pace.keeps_up(chunk.len() as u64, asked.elapsed());
        let request = &self.response.request;
        kept_up.map_err(|source| Error::Interrupted { request: request.clone(), source })?;
        Ok(Some(chunk))
    }

    /// All of it, if it has not more than `limit` bytes.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::Interrupted`].
    pub async fn collect(self, limit: usize) -> Result<Bytes, Error> {
        self.response.collect(limit).await
    }
}
