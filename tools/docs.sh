#!/usr/bin/env bash
# Set up tfxfer and build its documentation, a site that opens from the folder: site/index.html. What is broken or
# undocumented fails the build.
#
#     bash tools/docs.sh [FLAGS OF mkdocs build]

. "$(dirname -- "${BASH_SOURCE[0]}")/_setup.sh"

# MkDocs would be told of its successors at each start.
NO_MKDOCS_2_WARNING=1 .venv/bin/python -m mkdocs --quiet build --strict "$@"
say "the site is built; its first page is index.html, in site/ by default"
