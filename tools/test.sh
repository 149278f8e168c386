#!/usr/bin/env bash
# Set up tfxfer, check style and types, and run all tests.
#
#     bash tools/test.sh [--slow] [ARGUMENTS OF pytest]

. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

failed=()
check() {
    say "$*"
    .venv/bin/"$@" || failed+=("$*")
}

check ruff check .
check ruff format --check .
check mypy
check pytest -n 2 -rs "$@"

if [ ${#failed[@]} -gt 0 ]; then
    fail "failed: $(printf '%s; ' "${failed[@]}")"
fi
say "all checks passed"
