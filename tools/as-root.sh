#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/as-root.sh GOAL CMD...: run CMD, which needs root, or say how to.
#
# Root's Python writes no bytecode: the clone may be an ordinary user's.
set -euo pipefail

goal=$1
shift
if [ "$EUID" -ne 0 ]; then
	echo "make $goal: stopped: the rest loads BPF programs, which needs root: sudo make $goal" >&2
	exit 77
fi
unset PYTHONHOME
exec env PYTHONDONTWRITEBYTECODE=1 "$@"
