#!/bin/bash
# setup.sh - what building and testing need beyond git, make, Rust and Go.
#
# 1. Debian packages (packages.list), only when one is missing.
# 2. Programs to test against (peers/peers.list), built from their Go modules
#    into a cache folder, only those that are not there yet.
# 3. Debian's docker 20.10, CLI and dockerd, unpacked into the same cache and
#    not installed: its package would start the dockerd.
# 4. The contents of the registries that tests pull from (seed.sh).
#
# Run again at any time: with nothing missing it takes no network and well
# under a second. What cannot be had is skipped, said and counted; the tests
# that need it are then skipped and counted as well.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)

usage() {
  cat <<'USAGE'
usage: setup.sh [--build]

  --build     only what a build needs: the Debian packages, no peers

environment:
  NERDCTLD_PEERS   the cache folder (default: ${XDG_CACHE_HOME:-~/.cache}/nerdctld-peers)
USAGE
}

peers=${NERDCTLD_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/nerdctld-peers}
with_peers=1
case ${1-} in
  '') ;;
  --build) with_peers=0 ;;
  -h|--help) usage; exit 0 ;;
  *) usage >&2; exit 2 ;;
esac

skipped=0
say() { printf 'setup: %s\n' "$*"; }
skip() { skipped=$((skipped + 1)); say "SKIPPED $*"; }
as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# ---- 1. packages ------------------------------------------------------------
wanted() { sed 's/#.*//' "$here/packages.list" | tr -s ' \n' ' '; }

missing_packages() {
  local p
  for p in $(wanted); do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || printf '%s ' "$p"
  done
}

install_packages() {
  command -v dpkg-query >/dev/null || { skip 'Debian packages: this is not a Debian'; return; }
  local missing
  missing=$(missing_packages)
  [ -n "$missing" ] || return 0
  say "installing $missing"
  # The lists of packages may be old or absent: refresh them only if they fail us.
  # shellcheck disable=SC2086 # a list of words
  DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -q --no-install-recommends $missing ||
    { as_root apt-get update -q &&
      DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -q --no-install-recommends $missing; }
}

# ---- 2. peers ---------------------------------------------------------------
# build NAME VERSION TAGS SETTINGS PROGRAM=PACKAGE...
build() {
  local name=$1 version=$2 tags=$3 settings=$4 source work
  shift 4
  local done_dir=$peers/$name-$version
  [ ! -d "$done_dir" ] || return 0
  command -v go >/dev/null || { skip "$name $version: no Go toolchain"; return 0; }
  say "building $name $version"
  source=$here/peers/$name
  [ -d "$source" ] || source=$here/../$name
  mkdir -p "$peers"
  work=$(mktemp -d "$peers/.building-$name-XXXXXX")
  cp -r "$source" "$work/src"
  local ldflags=(-s -w)
  [ "$settings" = - ] || ldflags+=(-X "$settings")
  [ "$tags" != - ] || tags=
  local program
  for program in "$@"; do
    if ! (cd "$work/src" && GOTOOLCHAIN=local GOWORK=off GOFLAGS='' nice -n 5 go build -mod=readonly -trimpath -buildvcs=false \
      -tags "$tags" -ldflags "${ldflags[*]}" -o "$work/out/bin/${program%%=*}" "${program#*=}") > "$work/log" 2>&1; then
      tail -n 20 "$work/log"
      rm -rf "$work"
      skip "$name $version: it does not build (above)"
      return 0
    fi
  done
  # Whoever is first wins; both made the same.
  mv -T "$work/out" "$done_dir" 2>/dev/null || true
  rm -rf "$work"
}

build_peers() {
  local name version tags settings programs
  while read -r name version tags settings programs; do
    case $name in '' | '#'*) continue ;; esac
    # shellcheck disable=SC2086 # a list of words
    build "$name" "$version" "$tags" "$settings" $programs
  done < "$here/peers/peers.list"
}

# ---- 3. the old docker ------------------------------------------------------
debian_docker() {
  local done_dir=$peers/docker-debian work
  [ ! -d "$done_dir" ] || return 0
  command -v apt-get >/dev/null || { skip "Debian's docker: no apt-get"; return 0; }
  say "unpacking Debian's docker"
  mkdir -p "$peers"
  work=$(mktemp -d "$peers/.building-docker-debian-XXXXXX")
  if (cd "$work" && { apt-get download -q docker.io || { as_root apt-get update -q && apt-get download -q docker.io; }; } &&
    dpkg-deb -x docker.io_*.deb tree && mkdir -p out/bin && cp tree/usr/bin/docker tree/usr/sbin/docker{d,-proxy} out/bin &&
    ln -s /usr/bin/tini-static out/bin/docker-init) > "$work/log" 2>&1; then
    mv -T "$work/out" "$done_dir" 2>/dev/null || true
  else
    tail -n 5 "$work/log"
    skip "Debian's docker: the package cannot be had (above)"
  fi
  rm -rf "$work"
}

install_packages
if [ "$with_peers" = 1 ]; then
  build_peers
  debian_docker
  NERDCTLD_PEERS=$peers "$here/seed.sh" > /dev/null || skip 'registry contents: they cannot be made (above)'
fi
[ "$skipped" = 0 ] || say "$skipped skipped"
