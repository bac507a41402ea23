#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/as-owner.sh CMD...: run CMD as whoever owns this clone.
#
# `sudo make test` in a user's clone must leave nothing of root's in it, or the
# user's next `git status`, `make` or `rm -r` fails. So whatever writes into the
# clone is run through here. Called by the owner, it just runs CMD.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
uid=$(stat -c %u "$root")
unset PYTHONHOME # it would send any Python to another one's library

if [ "$EUID" -ne 0 ] || [ "$uid" -eq 0 ]; then
	exec "$@"
fi

gid=$(stat -c %g "$root")
if entry=$(getent passwd "$uid"); then
	IFS=: read -r name _ _ gid _ home _ <<<"$entry"
	become=(setpriv --reuid "$uid" --regid "$gid" --init-groups)
else # the owner has no name here: a bind mount, a CI container
	name=$uid home=/
	become=(setpriv --reuid "$uid" --regid "$gid" --clear-groups)
fi

# A tree unpacked by root may belong to a stranger who cannot even reach it:
# then nobody but root works in it.
if ! "${become[@]}" test -w "$root" 2>/dev/null; then
	exec "$@"
fi
unset XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME XDG_RUNTIME_DIR
exec "${become[@]}" env HOME="$home" USER="$name" LOGNAME="$name" "$@"
