//! One container's networks, attached and detached, from the OCI hook and the engine alike.
