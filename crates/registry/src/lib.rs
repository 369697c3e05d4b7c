//! Registries over HTTPS: hosts.toml, tokens, manifests, blobs.
