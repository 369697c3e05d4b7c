//! CNI: conflists, plugin runs, results, leases.
