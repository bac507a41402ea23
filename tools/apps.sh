#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/apps.sh: the libraries that the attribution tests run, from PyPI, in a
# virtualenv of their own: build/apps. Its Python is .venv's. A second call takes a
# moment.
set -euo pipefail
unset PYTHONHOME PYTHONPATH
export PIP_USER=0

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly STAMP=build/apps/zombiebpf-apps
# The attribution rules were read in these versions.
readonly PACKAGES=(billiard==4.3.2 celery==5.7.0 gunicorn==27.0.1 joblib==1.6.0 uvicorn==0.54.0)
readonly LOG=build/apps.log

python=$(.venv/bin/python -I -c 'import sys; print(sys._base_executable)')
wanted=$(printf '%s\n' "$python" "$(pwd -P)" "${PACKAGES[@]}")
[ "$(cat "$STAMP" 2>/dev/null)" != "$wanted" ] || exit 0

echo "apps: installing ${PACKAGES[*]}"
as_owner() { tools/as-owner.sh "$@"; }
as_owner mkdir -p build
as_owner rm -rf build/apps
{ as_owner "$python" -I -m venv build/apps &&
	as_owner build/apps/bin/python -I -m pip --disable-pip-version-check install "${PACKAGES[@]}"; } \
	2>&1 </dev/null | as_owner tee "$LOG" >/dev/null || {
	echo "apps: pip could not install them. Check the network (pip's own settings are honoured); log: $LOG" >&2
	exit 1
}
printf '%s\n' "$wanted" | as_owner tee "$STAMP" >/dev/null
