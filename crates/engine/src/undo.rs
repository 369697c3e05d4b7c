//! Steps to take back when a later step fails.
//!
//! An operation of several steps pushes the reverse of each step it has done. Success disarms the list; failure runs it
//! in reverse order and goes on after an error, because the remaining steps still have to be taken back.

use std::future::Future;
use std::pin::Pin;

type Step = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// The steps done so far, reversed.
#[derive(Default)]
pub struct Undo {
    steps: Vec<(&'static str, Step)>,
}

impl std::fmt::Debug for Undo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.steps.iter().map(|(name, _)| name)).finish()
    }
}

impl Undo {
    /// Nothing done yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Remember how to take a step back. `name` says what it does, for the log (`release the name`).
    pub fn push<E: std::fmt::Display>(
        &mut self,
        name: &'static str,
        step: impl Future<Output = Result<(), E>> + Send + 'static,
    ) {
        self.steps
            .push((name, Box::pin(async move { step.await.map_err(|error| error.to_string()) })));
    }

    /// All went well: nothing is taken back.
    pub fn disarm(mut self) {
        self.steps.clear();
    }

    /// Take everything back, newest first. Errors are logged; the failure that led here is what the client gets.
    pub async fn run(mut self) {
        while let Some((name, step)) = self.steps.pop() {
            if let Err(error) = step.await {
                tracing::warn!(step = name, error, "a step could not be taken back");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[tokio::test]
    async fn newest_first_and_on_after_an_error() {
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut undo = Undo::new();
        for number in 1..=3 {
            let order = Arc::clone(&order);
            undo.push("test", async move {
                order.lock().unwrap().push(number);
                if number == 2 { Err("no") } else { Ok(()) }
            });
        }
        undo.run().await;
        assert_eq!(*order.lock().unwrap(), [3, 2, 1]);
    }
}
