# make run     installs what is missing, builds, starts the server on 127.0.0.1:8080 with its data in ./data
# make test    everything that must be green: format, lints, licences, tests
# make bench   the benchmarks, measured against goal
# make setup   installs what building and testing need, and nothing else
#
# One profile (release), one target folder and one feature set (--workspace) for all, so that nothing is compiled twice.

SHELL := /bin/bash
CARGO ?= cargo
export KALAMDB_DATA ?= ./data

# The tests' own fail points and Python are found below this folder.
TARGET := $(or $(CARGO_TARGET_DIR),target)

.PHONY: run build test bench setup fmt lint deny

run: build
	@exec scripts/run.sh

build:
	@scripts/setup.sh
	@$(CARGO) build --release --workspace --bins

test: setup fmt lint deny
	$(CARGO) test --release --workspace

bench: build
	$(CARGO) bench --workspace

setup:
	@scripts/setup.sh tests

fmt:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --release --workspace --all-targets -- -D warnings

# In CI the tool must be there; elsewhere its absence is said and is no failure, for it takes minutes to build.
deny:
	@if command -v cargo-deny >/dev/null; then $(CARGO) deny --workspace check; \
	else echo "cargo-deny is not installed: licences and advisories were not checked (cargo install --locked cargo-deny)"; fi
