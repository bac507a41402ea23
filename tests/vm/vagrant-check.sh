#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/vm/vagrant-check.sh [--up]: is the Vagrantfile right?
#
# Without --up it is validated, which needs vagrant alone. With --up a VM is
# really brought up from it, by root, without KVM and without downloading a box:
#   1. a box of Debian 12 is built from Debian's packages and named as the
#      Vagrantfile names the public one, so that the file is used as it is;
#   2. up, demo, the unit and kernel tests, provision again (which must change
#      nothing), halt, up, destroy.
# libvirt changes this machine's network (a bridge, NAT): use a machine of your
# own, or a network namespace. The box stays in the cache.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
die() {
	echo "vagrant-check: $1" >&2
	exit "${2:-1}"
}

packages="vagrant vagrant-libvirt libvirt-daemon-system dnsmasq-base qemu-system-x86 qemu-utils"
packages+=" iptables rsync openssh-client mmdebstrap grub-pc-bin e2fsprogs"
command -v vagrant >/dev/null || die "vagrant is not here; install it: sudo apt install vagrant vagrant-libvirt" 2
cache=${ZOMBIEBPF_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/zombiebpf-vm}
export VAGRANT_HOME=${VAGRANT_HOME:-$cache/vagrant} VAGRANT_NO_COLOR=1 VAGRANT_CHECKPOINT_DISABLE=1
mkdir -p "$VAGRANT_HOME"

vagrant validate
[ "${1:-}" = --up ] || exit 0

[ "$EUID" -eq 0 ] || die "--up needs root" 77
for tool in virsh dnsmasq qemu-img iptables rsync ssh mmdebstrap grub-mkimage mke2fs; do
	PATH=$PATH:/usr/sbin:/sbin command -v $tool >/dev/null ||
		die "$tool is missing; install: sudo apt install --no-install-recommends $packages" 2
done

timed() { # CMD...: says how it went and how long it took
	local began=$SECONDS code=0
	"$@" || code=$?
	echo "vagrant-check: $*: exit $code, $((SECONDS - began)) s"
	return $code
}

box=$cache/debian12.box
[ -f "$box" ] || timed tests/vm/vagrant-box.sh "$box"

virsh -c qemu:///system version >/dev/null 2>&1 || {
	# no systemd here: the daemons by hand; libvirt's own namespaces want a /dev/pts of its own
	grep -q '^namespaces' /etc/libvirt/qemu.conf || echo 'namespaces = []' >>/etc/libvirt/qemu.conf
	virtlogd -d
	libvirtd -d
	for _ in $(seq 30); do
		virsh -c qemu:///system version >/dev/null 2>&1 && break
		sleep 1
	done
}

# It is merged before ours: software emulation, where our file leaves the choice open.
cat >"$VAGRANT_HOME/Vagrantfile" <<'EOV'
Vagrant.configure("2") do |config|
  config.vm.boot_timeout = 1800
  config.vm.provider(:libvirt) do |libvirt|
    libvirt.driver = "qemu"
    libvirt.cpu_mode = "custom"
    libvirt.cpu_model = "qemu64"
  end
end
EOV
export VAGRANT_DEFAULT_PROVIDER=libvirt
vagrant box add --force --name debian/bookworm64 --provider libvirt "$box"

state() { # what provisioning could have changed
	vagrant ssh -c 'cd /vagrant && sudo find .venv -type f -printf "%p %T@\n" | sort | cksum; dpkg -l | cksum'
}

trap 'timed vagrant destroy -f' EXIT
timed vagrant up
timed vagrant ssh -c 'cd /vagrant && sudo make demo'
before=$(state)
timed vagrant provision
[ "$before" = "$(state)" ] || die "the second provisioning changed something"
timed vagrant ssh -c 'cd /vagrant && sudo make test-unit && sudo .venv/bin/zombiebpf doctor'
timed vagrant halt
timed vagrant up
timed vagrant ssh -c 'cd /vagrant && sudo .venv/bin/zombiebpf run -- /usr/bin/python3 -c pass'
