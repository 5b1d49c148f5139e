# make run     installs what is missing, builds, starts the server on 127.0.0.1:8080 with its data in ./data
# make test    everything that must be green: format, lints, licences, tests
# make bench   the benchmarks, measured against goal
# make setup   installs what building and testing need, and nothing else
#
# One profile (release), one target folder and one feature set (--workspace) for all, so that nothing is compiled twice.

SHELL := /bin/bash
CARGO ?= cargo
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run build test bench setup fmt lint deny advisories

run: build
	@echo
	@echo "Connect from another terminal:   $(TARGET)/release/kalam --user root"
	@echo "The password of root is KALAMDB_ROOT_PASSWORD, or printed below at the first start. Ctrl-C stops the server."
	@echo
	@exec $(TARGET)/release/kalamdb-server

build:
	@scripts/setup.sh
	@$(CARGO) build --release --workspace --bins

# One seed, so that a run says the same twice: PROPTEST_RNG_SEED=$$RANDOM make test looks elsewhere.
test: setup fmt lint deny
	PROPTEST_RNG_SEED=$${PROPTEST_RNG_SEED:-1} $(CARGO) test --release --workspace --no-fail-fast

bench: build
	$(CARGO) bench --workspace --bench goals

setup:
	@scripts/setup.sh tests

fmt:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

# The tool takes minutes to build, so its absence is said and is no failure.
deny:
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --workspace check bans licenses sources; \
	else echo "Licences were not checked: cargo-deny is not installed (cargo install --locked cargo-deny)."; fi

# Known vulnerabilities, from a database on the network.
advisories:
	$(CARGO) deny --workspace check advisories
