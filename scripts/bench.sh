#!/bin/bash
# bench.sh - nerdctld beside dockerd 29 in one run, and the floors of both: containerd alone, CNI plugins alone.
#
# usage: bench.sh [ROW-FILTER…]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
cargo build --release -p nerdctld
cargo build --release -p e2e --bins
exec "${CARGO_TARGET_DIR:-target}/release/bench" "$@"
