//! What the operations mean: state, events, locks. Knows no HTTP and no Docker JSON.
