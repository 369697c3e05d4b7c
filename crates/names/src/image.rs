//! Images: references by the rules of distribution, digests, and what a user types to mean one.

mod digest;
mod reference;
mod selector;

pub use digest::{Digest, DigestAlgorithm, ImageId, InvalidDigest};
pub use reference::{ImageRef, InvalidImageRef, InvalidTag, validate_tag};
pub use selector::ImageSelector;
