#!/bin/bash
# bench.sh - nerdctld beside dockerd 29 in one run, and the floor of both: containerd alone, CNI plugins alone.
#
# Prints a table of ratios; judges nothing. A full run takes up to nine minutes, --quick up to three; numbers are worth
# something only while the machine does nothing else.
#
# usage: bench.sh [--quick] [--only NAMES] [--socket NAME=unix://PATH] [--no-floor] [--list] [ROW…]
set -euo pipefail
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || { echo 'bench.sh: sandboxes need root: sudo make bench' >&2; exit 1; }
scripts/setup.sh
# The daemon by itself, as it is installed: beside others it would get their choice of features.
cargo build --release -p nerdctld
cargo build --release -p e2e --bins
exec "${CARGO_TARGET_DIR:-target}/release/bench" "$@"
