#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/vendor-axe.sh: fetch axe-core, by which tests/browser judge how accessible
# the pages are, from npm into tests/browser/vendor. Only to take another version:
# the files are kept in the repository, so that tests need no npm.
set -euo pipefail

readonly VERSION=4.14.1
readonly SHA512=FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ==

cd "$(dirname "${BASH_SOURCE[0]}")/../tests/browser/vendor"
directory=$(mktemp -d)
trap 'rm -rf "$directory"' EXIT

npm pack --silent --pack-destination "$directory" "axe-core@$VERSION"
package=$directory/axe-core-$VERSION.tgz
if [ "$(openssl dgst -sha512 -binary "$package" | base64 -w 0)" != "$SHA512" ]; then
	echo "vendor-axe: axe-core $VERSION is not the package that it was. Compare before trusting it" >&2
	exit 1
fi
tar -xzf "$package" -C "$directory" package/axe.min.js package/LICENSE
cp "$directory/package/axe.min.js" axe.min.js
cp "$directory/package/LICENSE" axe-core.LICENSE
echo "vendor-axe: axe-core $VERSION"
