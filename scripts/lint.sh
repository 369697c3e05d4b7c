#!/bin/bash
# lint.sh - everything CI complains about besides tests. All checks run; one failure fails the whole.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
scripts/setup.sh --build || exit 1

failed=()
check() {
  echo "== $*"
  "$@" || failed+=("$*")
}

check cargo fmt --all --check
check cargo clippy --quiet --workspace --all-targets -- -D warnings
# Private items are documented too, so that links to them are fine.
RUSTDOCFLAGS='-D warnings -A rustdoc::private_intra_doc_links' check cargo doc --quiet --workspace --no-deps --document-private-items
check cargo xtask check-layers
check cargo xtask check-compatibility
# These two only where they are installed: building them takes longer than all the rest.
if command -v cargo-deny > /dev/null; then check cargo deny --all-features check; else echo '== cargo deny: not installed, skipped'; fi
if command -v shellcheck > /dev/null; then check shellcheck --severity=warning scripts/*.sh images/*.sh .ci/run; else echo '== shellcheck: not installed, skipped'; fi

[ ${#failed[@]} = 0 ] || { printf 'lint: FAILED %s\n' "${failed[@]}"; exit 1; }
