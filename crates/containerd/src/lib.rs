//! containerd over gRPC: services, Any, namespaces, leases, deadlines, error classes.
