#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/setup.sh [--try] [COMMAND...]: everything zombiebpf needs, from nothing but
# git, make and python3. Leaves the program as .venv/bin/zombiebpf. With --try, a
# COMMAND that cannot be installed is named and left out.
#
#   1. distribution packages: bcc's Python package (bcc is not on PyPI), Python's
#      venv, and those that bring each COMMAND named (cc, bpftrace, strace...);
#   2. a virtualenv in .venv, with the project and its development tools.
#
# What is there already is left alone: a second call takes a moment and needs no
# root. PYTHON=/path chooses the virtualenv's Python (3.9 or newer).
set -euo pipefail
# What would lead the steps below astray. pip's settings stay, but for the one
# that would install outside the virtualenv.
unset PYTHONHOME PYTHONPATH PYTHONWARNINGS PYTHONSTARTUP CDPATH
export PIP_USER=0

cd "$(dirname "${BASH_SOURCE[0]}")/.."
readonly STAMP=.venv/zombiebpf-setup
log=

say() { echo "setup: $*"; }

die() { # WHAT FIX: one line, then where to read the rest
	echo "setup: $1. $2" >&2
	if [ -n "$log" ] && [ -s "$log" ]; then
		grep -E '^ *([EW]:|ERROR|Error|error)' "$log" | awk '!seen[$0]++' | tail -n 3 | sed 's/^/setup:   /' >&2 || true
		echo "setup: full log: $log" >&2
	fi
	exit 1
}

logged() { # CMD...: its output goes to the log, which is shown only by die()
	[ -n "$log" ] || log=$(mktemp "${TMPDIR:-/tmp}/zombiebpf-setup.XXXXXX")
	echo "+ $*" >>"$log"
	"$@" </dev/null >>"$log" 2>&1
}

# --- 1. distribution packages -------------------------------------------------

package_of() { # THING: the package that brings it here
	case $manager:$1 in
	apt-get:bcc) echo python3-bpfcc ;;
	apt-get:venv) echo python3-venv ;;
	apt-get:cc) echo gcc libc6-dev ;;
	apt-get:perf) echo linux-perf ;;
	apt-get:exitsnoop) echo libbpf-tools ;;
	apt-get:exitsnoop-bpfcc) echo bpfcc-tools ;;
	apt-get:vagrant) echo vagrant vagrant-libvirt ;;
	apt-get:chromedriver) echo chromium-driver ;;
	apt-get:fonts) echo fonts-dejavu-core ;;
	apt-get:qemu-system-x86_64) echo qemu-system-x86 ;;
	apt-get:qemu-system-aarch64) echo qemu-system-arm ;;
	apt-get:qemu-*-static) echo qemu-user-static binfmt-support ;;
	apt-get:mke2fs) echo e2fsprogs ;;
	dnf:fonts) echo dejavu-sans-fonts dejavu-sans-mono-fonts ;;
	pacman:fonts) echo ttf-dejavu ;;
	pacman:chromedriver) echo chromium ;;
	dnf:bcc) echo python3-bcc ;;
	pacman:bcc) echo python-bcc ;;
	dnf:venv | pacman:venv) echo ;; # part of python3 itself
	*:cc) echo gcc ;;
	*) echo "$1" ;;
	esac
}

install_packages() { # PACKAGE...
	case $manager in
	apt-get)
		# The package lists are fetched only when those at hand do not do.
		local install=(env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300
			install --yes --no-install-recommends "$@")
		logged "${install[@]}" || { logged apt-get update && logged "${install[@]}"; }
		;;
	dnf) logged dnf install --assumeyes --setopt=install_weak_deps=False "$@" ;;
	pacman) logged pacman --sync --noconfirm --needed "$@" || logged pacman -Sy --noconfirm "$@" ;;
	esac
}

# bcc is looked for in the distribution's Python, the one its package is for. A
# file only the real one has is asked for: PyPI's "bcc" is another thing.
has_bcc() {
	local python
	for python in /usr/bin/python3 /usr/libexec/platform-python; do
		[ -x $python ] && $python -I - <<-'PY' && return
			import importlib.util, os, sys
			spec = importlib.util.find_spec("bcc")
			where = (spec and spec.submodule_search_locations) or []
			sys.exit(not any(os.path.exists(os.path.join(d, "libbcc.py")) for d in where))
		PY
	done
	return 1
}

has_venv() { "$python" -I -c 'import ensurepip, venv' 2>/dev/null; }

has() { # THING
	case $1 in
	bcc) has_bcc ;;
	venv) has_venv ;;
	cc) command -v cc >/dev/null && [ -e /usr/include/stdio.h ] ;;
	fonts) compgen -G "/usr/share/fonts/*" >/dev/null ;; # any that a browser can draw with
	*) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
	esac
}

ensure_packages() { # THING...
	local thing missing=() packages=()
	for thing in "$@"; do
		has "$thing" || missing+=("$thing")
	done
	[ ${#missing[@]} -gt 0 ] || return 0

	local manager=
	for manager in apt-get dnf pacman none; do
		command -v $manager >/dev/null && break
	done
	[ "$manager" != none ] ||
		die "missing: ${missing[*]}" "No apt-get, dnf or pacman here: install them by hand (bcc with its Python package)"
	for thing in "${missing[@]}"; do
		read -ra names <<<"$(package_of "$thing")"
		packages+=("${names[@]}")
	done
	[ ${#packages[@]} -gt 0 ] || die "$python has no ${missing[*]}" "Choose another: make PYTHON=/path/to/python3 setup"

	[ "$EUID" -eq 0 ] || die "missing packages: ${packages[*]}" "Installing them needs root: sudo tools/setup.sh ${missing[*]}"
	say "installing ${packages[*]} ($manager)"
	install_packages "${packages[@]}" ||
		die "$manager could not install ${packages[*]}" "Check the network and the package sources, then: sudo $manager install ${packages[*]}"
	for thing in "${missing[@]}"; do
		has "$thing" || die "$thing is still missing after installing ${packages[*]}" \
			"If Python is not the distribution's own, try: make PYTHON=/usr/bin/python3 setup"
	done
}

# --- 2. the virtualenv --------------------------------------------------------

version_of() { # PYTHON: "3.11.2"; fails below 3.9
	"$1" -I -c 'import sys; print("%d.%d.%d" % sys.version_info[:3]); sys.exit(sys.version_info < (3, 9))' 2>/dev/null
}

# The distribution's own comes first: the one on PATH may be pyenv's, a
# virtualenv's or conda's, and may be gone tomorrow. One chosen before stays.
choose_python() {
	local candidate
	version=
	if [ -n "${PYTHON:-}" ]; then
		python=$(command -v "$PYTHON") || die "PYTHON=$PYTHON is not a program" "Name a Python 3.9 or newer"
		version=$(version_of "$python") || die "PYTHON=$PYTHON is Python ${version:-unknown}" "Name a Python 3.9 or newer"
		return
	fi
	for candidate in "$(sed -n 1p $STAMP 2>/dev/null)" /usr/bin/python3 python3 python3.{14,13,12,11,10,9}; do
		python=$(command -v "$candidate") || continue
		version=$(version_of "$python") && return
	done
	die "no Python 3.9 or newer found" "Install one, or name it: make PYTHON=/path/to/python3 setup"
}

make_venv() {
	local as_owner=tools/as-owner.sh pip=(.venv/bin/python -I -m pip --disable-pip-version-check)
	# A virtualenv is bound to its place and to its Python; a change of either remakes it.
	if [ "$(sed -n 1,3p $STAMP 2>/dev/null)" != "$identity" ] || ! [ -x .venv/bin/python ]; then
		say "making .venv with $python ($version)"
		logged $as_owner rm -rf .venv || die "cannot remove the old .venv" "Remove it by hand: sudo rm -rf .venv"
		logged $as_owner "$python" -I -m venv .venv ||
			die "$python could not make .venv" "Choose another: make PYTHON=/path/to/python3 setup"
		# pip knows editable installs without setup.py from 21.3 on.
		logged $as_owner "${pip[@]}" install 'pip>=21.3' || pip_failed
	fi
	say "installing zombiebpf and its development tools"
	logged $as_owner "${pip[@]}" install --editable '.[dev]' || pip_failed
	# The packages' own __pycache__ directories exist from now on, and are the owner's.
	logged $as_owner .venv/bin/python -I -m compileall -q zombiebpf || true
	printf '%s\n' "$identity" "$inputs" | $as_owner tee $STAMP >/dev/null
}

pip_failed() {
	die "pip could not install what pyproject.toml names" "Check the network (pip's own settings are honoured), then: make setup"
}

# --- main ---------------------------------------------------------------------

optional=()
if [ "${1:-}" = --try ]; then
	shift
	optional=("$@")
	set --
fi

choose_python
ensure_packages bcc venv "$@"
for each in "${optional[@]}"; do
	# A subshell: die() ends only that.
	(ensure_packages "$each") || say "going on without $each"
done
identity=$(printf '%s\n' "$python" "$version" "$(pwd -P)")
inputs=$(cat pyproject.toml tools/setup.sh | cksum)
if [ "$(cat $STAMP 2>/dev/null)" != "$identity"$'\n'"$inputs" ] || ! [ -x .venv/bin/python ]; then
	if [ -z "${ZOMBIEBPF_SETUP_LOCKED:-}" ]; then # one at a time; the lock is the directory's
		[ -z "$log" ] || rm -f "$log"
		ZOMBIEBPF_SETUP_LOCKED=1 PYTHON=$python exec flock --close . "${BASH_SOURCE[0]}" "$@"
	fi
	make_venv
	say "ready: .venv/bin/zombiebpf"
fi
[ -z "$log" ] || rm -f "$log"
