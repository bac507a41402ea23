#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/vm/vagrant-check.sh [--up [--all]]: is the Vagrantfile right?
#
# Without --up it is validated, for each provider whose options can be known here:
# libvirt's need Debian's vagrant-libvirt, VirtualBox's are part of vagrant.
# With --up a VM is really brought up from it, by root, without KVM and without
# downloading a box: tests/vm/vagrant-up.sh says what is done there, in namespaces of
# its own, so that this machine's network, libvirt and files stay as they are. --all
# runs every test in it, which takes very long. The box stays in the cache; what was
# printed, and how long each phase took, in build/vagrant.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
readonly LOGS=build/vagrant
die() { # WHAT [CODE]
	echo "vagrant-check: $1" >&2
	exit "${2:-1}"
}

up='' whole=''
for argument in "$@"; do
	case $argument in
	--up) up=1 ;;
	--all) whole=1 ;;
	*) die "$argument: usage: vagrant-check.sh [--up [--all]]" 2 ;;
	esac
done
work=$(mktemp -d "${TMPDIR:-/var/tmp}/zombiebpf-vagrant.XXXXXX")
# shellcheck disable=SC2317 # at the end, whatever it is
finish() {
	local job
	trap '' INT TERM
	# unshare shrugs off all but SIGKILL, and takes all within along
	[ ! -s "$work/pid" ] || kill -KILL "$(cat "$work/pid")" 2>/dev/null || true
	for job in $(jobs -pr); do kill "$job" 2>/dev/null || true; done
	wait
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
# Whatever the user's own vagrant has been told is no part of this; in the clone nothing is left.
export VAGRANT_HOME=$work/home VAGRANT_DOTFILE_PATH=$work/dot VAGRANT_CWD=$PWD
export VAGRANT_NO_COLOR=1 VAGRANT_CHECKPOINT_DISABLE=1
unset VAGRANT_VAGRANTFILE VAGRANT_DEFAULT_PROVIDER VAGRANT_PREFERRED_PROVIDERS

# --- the file alone -----------------------------------------------------------

validate() { # PROVIDER: its options too
	VAGRANT_DEFAULT_PROVIDER=$1 vagrant validate >"$work/said" 2>&1 || {
		cat "$work/said" >&2
		die "the Vagrantfile is not valid with $1"
	}
	echo "vagrant-check: the Vagrantfile is valid with $1"
}

# Vagrant asks VirtualBox for its version before it looks at the options; 6.1 is known to all.
mkdir "$work/virtualbox"
printf '#!/bin/sh\necho 6.1.0\n' >"$work/virtualbox/VBoxManage"
chmod +x "$work/virtualbox/VBoxManage"
PATH=$work/virtualbox:$PATH validate virtualbox
if vagrant plugin list | grep -q '^vagrant-libvirt '; then
	validate libvirt
else
	echo "vagrant-check: no vagrant-libvirt here: libvirt's options are not looked at"
fi
[ -n "$up" ] || exit 0

# --- a VM ---------------------------------------------------------------------

[ "$EUID" -eq 0 ] || die "--up needs root" 77
packages="vagrant vagrant-libvirt libvirt-daemon-system dnsmasq-base qemu-system-x86 qemu-utils"
packages+=" iptables rsync openssh-client mmdebstrap grub-pc-bin e2fsprogs slirp4netns"
PATH=$PATH:/usr/sbin:/sbin
for tool in virsh dnsmasq qemu-system-x86_64 qemu-img iptables rsync ssh mmdebstrap grub-mkimage mke2fs slirp4netns; do
	command -v $tool >/dev/null || die "$tool is missing; install: sudo apt install --no-install-recommends $packages" 2
done
[ -e /dev/net/tun ] || die "/dev/net/tun is missing: the VM would have no way out; try: modprobe tun" 2

tools/as-owner.sh mkdir -p $LOGS
chmod 755 "$work" # qemu is another user
cache=${ZOMBIEBPF_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zombiebpf-vm}
box=$cache/debian12-$(cksum <tests/vm/vagrant-box.sh | cut -d ' ' -f 1).box
began=$SECONDS
if [ ! -f "$box" ]; then
	echo "vagrant-check: building a box of Debian's packages"
	mkdir -p "$cache"
	rm -f "$cache"/debian12-*.box
	nice -n 15 tests/vm/vagrant-box.sh "$box"
fi

# The way out: user-mode networking, attached to the namespace as soon as it is there.
mkfifo "$work/wanted" "$work/ready"
{
	read -r pid <"$work/wanted"
	exec setpriv --pdeathsig KILL slirp4netns --configure --mtu=1400 --disable-host-loopback \
		--ready-fd=3 "$pid" tap0 3>"$work/ready" >"$work/slirp.log" 2>&1
} &

export BOX=$box BOX_SECONDS=$((SECONDS - began)) WHOLE=$whole
{
	echo $BASHPID >"$work/pid" # unshare's, which is in the new network too
	exec setpriv --pdeathsig KILL nice -n 15 \
		unshare --net --mount --pid --fork --kill-child --mount-proc tests/vm/vagrant-up.sh "$work"
} </dev/null 2>&1 | sed -u $'s/\r[^\r]*Progress: [^\r]*//g' | tools/as-owner.sh tee $LOGS/log &
wait $! || true # in the background, so that a signal is heeded at once
rm "$work/pid"
code=$(cat "$work/code" 2>/dev/null) || code=1
if [ -f "$work/summary.txt" ]; then
	tools/as-owner.sh tee $LOGS/summary.txt <"$work/summary.txt"
fi
[ ! -f "$work/demo-report.txt" ] || tools/as-owner.sh tee $LOGS/demo-report.txt <"$work/demo-report.txt" >/dev/null
echo "vagrant-check: log, summary and the demo's report: $LOGS"
exit "$code"
