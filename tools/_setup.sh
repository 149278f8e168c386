# Sourced by quickstart.sh and test.sh: goes to the checkout and makes sure of a .venv with tfxfer installed in it.
#
# PYTHON=/path/to/python chooses the interpreter. What is in place already is left alone, so that a second run needs no
# network. Nothing outside the checkout is written, but pip's own cache.

set -euo pipefail
trap 'exit 130' INT
case "${PYTHON:-}" in /*) ;; */*) PYTHON="$PWD/$PYTHON" ;; esac
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

say() { printf '%s\n' "-- $*"; }
fail() { printf '%s\n' "$*" >&2; exit 1; }

# TensorFlow 2.21 has packages for Python 3.10 to 3.13.
suits() { "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; }
version() { "$1" -c 'import platform; print("Python", platform.python_version())' 2>/dev/null; }

find_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not a Python 3.10 to 3.13, which TensorFlow 2.21 needs"
        return
    fi
    for PYTHON in python3 python3.13 python3.12 python3.11 python3.10 python; do
        if suits "$PYTHON"; then return; fi
    done
    fail "no Python 3.10 to 3.13 found, which TensorFlow 2.21 needs: install one, or name it: PYTHON=/path/to/python3"
}

# A run that was killed leaves this file behind, and what it was making cannot be trusted.
unfinished=.venv/.unfinished

usable() {
    [ ! -e $unfinished ] && .venv/bin/python -m pip --version >/dev/null 2>&1 && suits .venv/bin/python || return 1
    [ -z "${PYTHON:-}" ] || [ "$(version "$PYTHON")" = "$(version .venv/bin/python)" ]
}

make_venv() {
    find_python
    if [ -e .venv ] || [ -L .venv ]; then
        say "making .venv again: it was left half-made, does not work, or is not of $(version "$PYTHON")"
        rm -rf .venv
    fi
    say "making .venv with $(version "$PYTHON")"
    mkdir .venv
    touch $unfinished
    if "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        "$PYTHON" -m venv .venv
    else
        make_venv_without_ensurepip
    fi
}

# Some systems ship Python without ensurepip, and forbid pip to install beside it (PEP 668). A folder of its own is
# always allowed, and gone afterwards.
make_venv_without_ensurepip() {
    say "this Python lacks ensurepip: taking virtualenv instead"
    "$PYTHON" -m pip --version >/dev/null 2>&1 ||
        fail "$PYTHON has neither ensurepip nor pip: install one of them (on Debian: apt install python3-venv)"
    local folder=.venv/.virtualenv
    "$PYTHON" -m pip install --quiet --disable-pip-version-check --target "$folder" virtualenv
    PYTHONPATH="$PWD/$folder" "$PYTHON" -m virtualenv --quiet .venv
    rm -rf "$folder"
}

install() {
    local stamp=.venv/.installed wanted
    wanted="$(cat setup.py pyproject.toml | cksum) $(version .venv/bin/python) $PWD"
    if [ -e $stamp ] && [ "$(cat $stamp)" = "$wanted" ]; then return; fi
    say "installing tfxfer and what it needs into .venv; the first time this takes some minutes"
    touch $unfinished
    # Without a network pip stops in an orderly way, and what was installed before is still good.
    .venv/bin/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' ||
        { rm -f $unfinished; fail "pip could not install tfxfer; its message is above"; }
    printf '%s' "$wanted" >$stamp
    rm -f $unfinished
}

usable || make_venv
install
