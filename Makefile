# Every command a person or CI runs, one line each.

TARGET := $(or $(CARGO_TARGET_DIR),target)
PREFIX := /usr/local
.PHONY: setup build run test test-all reference golden transcript bench lint fmt install clean
.DEFAULT_GOAL := build

# Debian packages, and programs to test against into a cache; fast when nothing is missing
setup:    ; scripts/setup.sh

# The daemon, for development: target/debug/nerdctld
build:    ; scripts/setup.sh --build && cargo build -p nerdctld

# The daemon with all it needs: docker version, docker run, then it stays until Ctrl-C
run:      ; scripts/run.sh

# The fast tier: every crate's tests, end to end on containerd 1.6 and 2.x
test:     ; scripts/test.sh fast

# All of that on containerd 1.7 as well, and the slow tests
test-all: ; scripts/test.sh all

# The end-to-end tests against dockerd 29, to see that they ask for what Docker does
reference: ; scripts/reference.sh

# Record the shapes of the answers of dockerd 29 and 20.10, which ours are compared with
golden:
	UPDATE_GOLDEN=1 scripts/reference.sh shapes::answers_have_dockers_shape
	E2E_TARGET=dockerd-20.10 UPDATE_GOLDEN=1 scripts/reference.sh shapes::answers_have_the_shape_of_dockerd_20_10

# What the docker CLI prints against the daemon, command by command (E2E_CONTAINERD=1.6, 1.7 or 2; E2E_TARGET=dockerd);
# with BESIDE=1 only what dockerd 29 prints otherwise, and why
transcript: ; scripts/setup.sh && cargo build --workspace && $(TARGET)/debug/transcript $(if $(BESIDE),--beside-dockerd)

# Latency, memory and throughput beside dockerd 29 and the floors: a table of ratios
bench:    ; scripts/bench.sh

# Everything CI complains about besides tests
lint:     ; scripts/lint.sh

# Format all code
fmt:      ; cargo fmt --all

# The daemon, its systemd units (system and user) and the stand-in for docker over ssh: make install [DESTDIR=] [PREFIX=/usr/local]
install:
	cargo build --release -p nerdctld
	install -D -t $(DESTDIR)$(PREFIX)/bin $(TARGET)/release/nerdctld
	install -D -t $(DESTDIR)$(PREFIX)/libexec/nerdctld packaging/docker
	install -D -m 644 -t $(DESTDIR)/lib/systemd/system packaging/nerdctl.service packaging/nerdctl.socket
	install -D -m 644 -t $(DESTDIR)/usr/lib/systemd/user packaging/user/nerdctl.service packaging/user/nerdctl.socket
	sed -i 's,/usr/local/,$(PREFIX)/,' $(DESTDIR)$(PREFIX)/libexec/nerdctld/docker \
	    $(DESTDIR)/lib/systemd/system/nerdctl.service $(DESTDIR)/usr/lib/systemd/user/nerdctl.service

# What cargo made; the cache of peers stays
clean:    ; cargo clean
