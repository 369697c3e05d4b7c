//! Images that containers are just being made of.
//!
//! A container counts as a user of its image once it is there, and making it takes a while. Until then a claim keeps the
//! image from being removed or pruned, without holding anybody up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::ResolvedImage;
use crate::{Engine, Error, Result};

/// How many want each image, by its id.
type Counts = Arc<Mutex<HashMap<String, usize>>>;

/// All claims.
#[derive(Debug, Default)]
pub(crate) struct Claims(Counts);

/// The image stays until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    id: String,
    counts: Counts,
}

impl Claims {
    /// Whether somebody wants the image.
    pub(crate) fn has(&self, id: &str) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains_key(id)
    }

    fn claim(&self, id: &str) -> Claim {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *counts.entry(id.to_owned()).or_default() += 1;
        Claim { id: id.to_owned(), counts: Arc::clone(&self.0) }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.id) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.id);
            }
        }
    }
}

impl Engine {
    /// Keeps an image that was found a moment ago for a container to be made of it.
    ///
    /// # Errors
    /// [`Error::NoSuchImage`] if it was removed meanwhile.
    pub(crate) async fn claim_image(&self, image: &ResolvedImage) -> Result<Claim> {
        // Who removes it looks for claims under the same turn.
        let _turn = self.image_turn(&image.id).await;
        let same_name = match self.containerd().get_image(&image.name).await {
            Ok(record) => record.target.digest == image.id,
            Err(error) if error.is_not_found() => false,
            Err(error) => return Err(self.containerd_error("look for an image again", error)),
        };
        if !same_name && self.image_records(&image.id).await?.is_empty() {
            return Err(Error::NoSuchImage(image.name.clone()));
        }
        Ok(self.image_cache().claims().claim(&image.id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_claim_ends_it() {
        let claims = Claims::default();
        let (first, second) = (claims.claim("a"), claims.claim("a"));
        drop(first);
        assert!(claims.has("a") && !claims.has("b"));
        drop(second);
        assert!(!claims.has("a"));
    }
}
