//! Ids, names, references, digests, signals, sizes, platforms: parsed once, then trusted.
