#!/bin/bash
# seed.sh - the contents of the registries that test hosts pull from.
#
# Makes the images (images/make-images.sh) and lets two registries take them in
# (images/seed-registry.sh): a mirror of docker.io, and one with a login. Only
# their data folders are kept: a test host starts registries of its own on a
# copy-on-write view of them. Filling takes a minute or two and happens once for
# each version of the makers.
#
# usage: seed.sh        prints the folder: images/ (the tars), mirror/, login/
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
images=$here/../images
peers=${NERDCTLD_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/nerdctld-peers}

# What the images are made of decides whether an older filling is still right.
key=$({ cat "$images"/*.sh "$0"; dpkg-query -W busybox-static bash-static docker-registry 2>/dev/null || true; } |
  sha256sum | cut -c1-12)
final=$peers/registry-$key
if [ -d "$final" ]; then
  echo "$final"
  exit 0
fi

mkdir -p "$peers"
work=$(mktemp -d "$peers/.seeding-XXXXXX")
trap 'rm -rf "$work"' EXIT
"$images/make-images.sh" "$work/out/images" > "$work/log"

# Each in a network of its own, so that no port of the machine is taken; the
# registry leaves with the process namespace, whatever happens.
fill() {
  unshare "${as_user[@]}" --net --pid --fork --kill-child --mount-proc sh -c 'ip link set lo up && exec "$@"' sh \
    "$images/seed-registry.sh" "$@" >> "$work/log" 2>&1 || { tail -n 20 "$work/log" >&2; exit 1; }
}
as_user=()
[ "$(id -u)" = 0 ] || as_user=(--map-root-user)
fill --addr 127.0.0.1:5001 "$work/out/images" "$work/mirror"
fill --addr 127.0.0.1:5000 --auth nerd:secret "$work/out/images" "$work/login"
mv "$work/mirror/data" "$work/out/mirror"
mv "$work/login/data" "$work/out/login"
mv -T "$work/out" "$final" 2>/dev/null || true
echo "$final"
