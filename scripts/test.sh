#!/bin/bash
# test.sh - the tests of all crates, and the end-to-end tests on several containerds.
#
# usage: test.sh fast     every crate, then end to end on containerd 1.6 and 2.x
#        test.sh all      containerd 1.7, the slow tests, and the budget of the release build as well
#
# The last line counts everything: N passed, N failed, N skipped.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

case ${1-} in
  fast) containerds='2' ;;
  all) containerds='1.7 2' E2E_SLOW=1 ;;
  *) sed -n 's/^# \{0,1\}//p' "$0" | sed 1d; exit 2 ;;
esac
export E2E_SLOW=${E2E_SLOW-}

scripts/setup.sh || exit 1
log=$(mktemp)
trap 'rm -f "$log"' EXIT
failed=0

# --workspace everywhere: another choice of packages would be another choice of features, and compile everything twice.
cargo build --workspace || exit 1
# Every crate's tests, and the end-to-end tests on containerd 1.6.
E2E_CONTAINERD=1.6 cargo test --workspace --no-fail-fast 2>&1 | tee -a "$log" || failed=1
for version in $containerds; do
  echo "== end to end on containerd $version"
  E2E_CONTAINERD=$version cargo test --workspace --test api 2>&1 | tee -a "$log" || failed=1
done

if [ "$1" = all ]; then
  echo '== what the binary and the idle daemon may take'
  { cargo build --release -p nerdctld && cargo xtask budget; } || failed=1
fi

# Tests that failed beside others and passed alone: each wants a look.
grep '^unsteady:' "$log"
awk '/^test result:/ {
  for (i = 2; i <= NF; i++) {
    if ($i ~ /^passed/) passed += $(i - 1)
    if ($i ~ /^failed/) failed += $(i - 1)
    if ($i ~ /^ignored/) ignored += $(i - 1)
  }
} END { printf "%d passed, %d failed, %d skipped\n", passed, failed, ignored }' "$log"
exit "$failed"
