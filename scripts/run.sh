#!/bin/bash
# run.sh - the daemon with all it needs on this machine, shown at work, and kept until Ctrl-C.
#
# A containerd that runs already is used (CONTAINERD_ADDRESS, or /run/containerd/containerd.sock); where none does,
# the daemon starts one of its own. Images come from Docker Hub where it can be reached, else from a registry on
# 127.0.0.1 with stand-ins made from Debian packages.
#
# With a terminal on its standard input the daemon stays until Ctrl-C; without one, all is stopped after the
# demonstration. What was started here is stopped; files stay in NERDCTLD_RUN for the next time.
#
# environment: NERDCTLD_RUN     where its files are (default /var/lib/nerdctld-run)
#              NERDCTLD_SOCKET  where it listens (default /run/nerdctl.sock)
set -euo pipefail
cd "$(dirname "$0")/.."
files=${NERDCTLD_RUN:-/var/lib/nerdctld-run}
socket=${NERDCTLD_SOCKET:-/run/nerdctl.sock}
containerd=${CONTAINERD_ADDRESS:-/run/containerd/containerd.sock}
containerd=${containerd#unix://}
peers=${NERDCTLD_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/nerdctld-peers}
say() { printf '\n== %s\n' "$*"; }

[ "$(id -u)" = 0 ] || { echo 'run.sh: containers need root here: sudo make run' >&2; exit 1; }
scripts/setup.sh
cargo build -p nerdctld
daemon=${CARGO_TARGET_DIR:-target}/debug/nerdctld

docker=$(command -v docker || true)
for program in "$peers"/docker-{cli-*,debian}/bin/docker; do
  [ -n "$docker" ] || [ ! -x "$program" ] || docker=$program
done
[ -n "$docker" ] || { echo 'run.sh: no docker CLI (apt-get install docker.io, or Go for make setup)' >&2; exit 1; }

mkdir -p "$files"/{certs.d/docker.io,cni/net.d,registry}
started=() had_network=0
! { [ -e /sys/class/net/nerdctl0 ] || iptables-save 2>/dev/null | grep -q CNI-; } || had_network=1

# The bridge, and what the CNI plugins leave for the next container.
remove_network() {
  ip link del nerdctl0 2>/dev/null || true
  local table
  for table in filter nat; do
    iptables-save -t "$table" | grep -v CNI- | iptables-restore
  done
}

stop() {
  trap '' INT TERM
  trap - EXIT
  say 'stopping'
  local pid
  if [ "$managed_mode" = 1 ]; then
    # Its containers would be left without the containerd that we stop.
    for pid in $("$docker" --host "unix://$socket" ps -aq 2>/dev/null); do
      "$docker" --host "unix://$socket" rm -f "$pid" > /dev/null 2>&1 || true
    done
  fi
  for pid in "${started[@]}"; do
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  done
  if [ "$managed_mode" = 1 ]; then
    for pid in $(cat /run/nerdctld/containerd-"$(printf %s "$files/data" | sha256sum | cut -c1-8)"/containerd.pid 2>/dev/null); do
      kill "$pid" 2>/dev/null || true
    done
    [ "$had_network" = 1 ] || remove_network
  fi
}

# ---- where images come from ---------------------------------------------------
hub_answers() { curl --silent --max-time 3 --output /dev/null https://registry-1.docker.io/v2/; }

local_registry() {
  local filled address=127.0.0.1:5001
  filled=$(NERDCTLD_PEERS=$peers scripts/seed.sh)
  cat > "$files/registry/config.yml" <<YAML
version: 0.1
log: {level: warn}
storage:
  filesystem: {rootdirectory: $filled/mirror}
  maintenance: {readonly: {enabled: true}}
http: {addr: $address}
YAML
  docker-registry serve "$files/registry/config.yml" > "$files/registry/log" 2>&1 &
  started+=($!)
  printf 'server = "http://%s"\n[host."http://%s"]\ncapabilities = ["pull", "resolve"]\n' "$address" "$address" \
    > "$files/certs.d/docker.io/hosts.toml"
}

managed_mode=0
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if hub_answers; then
  rm -f "$files/certs.d/docker.io/hosts.toml"
else
  say 'Docker Hub does not answer: images from a registry on this machine'
  local_registry
fi

# ---- the daemon -----------------------------------------------------------------
if [ ! -S "$containerd" ]; then
  containerd=managed managed_mode=1
  say 'no containerd runs: the daemon starts its own'
fi
"$daemon" --addr "unix://$socket" --containerd "$containerd" --data-root "$files/data" \
  --cni-netconfpath "$files/cni/net.d" --hosts-dir "$files/certs.d" > "$files/log" 2>&1 &
started+=($!)
nerdctld=$!
# The daemon answers at once; a list needs containerd, which may still be on its way.
for _ in $(seq 300); do
  kill -0 "$nerdctld" 2>/dev/null || { tail -n 30 "$files/log"; echo 'run.sh: the daemon ended (above)' >&2; exit 1; }
  ! curl --silent --fail --max-time 5 --output /dev/null --unix-socket "$socket" http://docker/containers/json || break
  sleep 0.1
done

export DOCKER_HOST=unix://$socket
show() { printf '\n$ docker %s\n' "$*"; "$docker" "$@"; }
show version
show pull busybox
show run --rm hello-world
show run --rm busybox echo 'hello from a container of containerd'
show run -d --name nerdctld-run-demo busybox sh -c 'echo one; echo two; sleep 1000'
show ps
show logs nerdctld-run-demo
show rm -f nerdctld-run-demo

if [ -t 0 ]; then
  say "nerdctld listens on $socket; log: $files/log"
  printf 'In another shell:  export DOCKER_HOST=%s\nCtrl-C ends it.\n' "$DOCKER_HOST"
  wait "$nerdctld"
fi
