//! One process per container that owns its output: FIFOs, json-file, attach clients.
