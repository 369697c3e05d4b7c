#!/bin/bash
# reference.sh - the end-to-end tests against dockerd 29, which the rig starts in place of nerdctld; against Debian's
# 20.10 with E2E_TARGET=dockerd-20.10.
#
# A test that dockerd fails asks for something that Docker does not do. Tests about nerdctld itself (its
# processes, nerdctl's files, what it refuses) are skipped and counted.
#
# usage: reference.sh [TEST-FILTER…]
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
E2E_TARGET=${E2E_TARGET:-dockerd} cargo test --workspace --test api -- "$@"
