#!/usr/bin/env bash
# Set up tfxfer, check style and types, and run all tests.
#
#     bash tools/test.sh [--slow] [ARGUMENTS OF pytest]

. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

# Without a browser, the tests that need one skip and say why.
browser() {
    if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then return; fi
    if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then return; fi
    say "installing chromium for the tests in a browser"
    { timeout 300 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq \
        --no-install-recommends chromium chromium-driver fonts-dejavu-core; } >/dev/null 2>&1 ||
        say "chromium could not be installed; these tests will skip"
}

browser
failed=()
check() {
    say "$*"
    .venv/bin/"$@" || failed+=("$*")
}

check ruff check .
check ruff format --check .
check mypy
check pytest -n 2 --dist worksteal -rs "$@"

if [ ${#failed[@]} -gt 0 ]; then
    fail "failed: $(printf '%s; ' "${failed[@]}")"
fi
say "all checks passed"
