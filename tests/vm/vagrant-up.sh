#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/vm/vagrant-up.sh DIRECTORY: the life of a VM that the Vagrantfile describes.
# vagrant-check.sh --up calls it, as PID 1 of namespaces of its own (PIDs, mounts,
# network); DIRECTORY is for what it makes. Here the machine's libvirt is not to be
# seen; ours has its own configuration, pools, bridge and NAT rules, and ends with us.
#
#   up, demo, provision again (which must change nothing), halt, up, tests, destroy
# shellcheck disable=SC2317 # functions are called by phase
set -euo pipefail

readonly WORK=$1 BOX_NAME=debian/bookworm64 PATIENCE=8
readonly TESTS="test_zoo and not left and not orphan_that and not orphans_and"
failed=0
trap 'echo $? >"$WORK/code"' EXIT
: >"$WORK/summary.txt"

say() { echo "vagrant-check: $*"; }
note() { printf '%-34s %-8s %6s\n' "$@" >>"$WORK/summary.txt"; } # PHASE OUTCOME SECONDS

phase() { # NAME LIMIT_S CMD...: goes on whatever comes of it
	local name=$1 limit_s=$2 began=$SECONDS code=0 outcome=ok
	shift 2
	say "$name"
	set +e
	(
		set -e
		"$@"
	)
	code=$?
	set -e
	if [ $code -ne 0 ]; then
		failed=1 outcome="exit $code"
	fi
	say "$name: $outcome, $((SECONDS - began)) s"
	note "$name" "$outcome" "$((SECONDS - began)) s"
}

vagrant() { timeout --kill-after=60 "${limit_s:-300}" vagrant "$@"; } # the phase's
in_vm() { vagrant ssh -c "cd /vagrant && $1"; }

# --- namespaces ---------------------------------------------------------------

own() { # DIRECTORY: an empty one in its place
	mkdir -p "$WORK/own$1"
	mount --bind "$WORK/own$1" "$1"
}

enter() {
	mount -t sysfs sysfs /sys # the network devices that it shows are those of this namespace
	mkdir -p "$WORK/own/etc"
	cp -a /etc/libvirt "$WORK/own/etc/libvirt"
	mount --bind "$WORK/own/etc/libvirt" /etc/libvirt
	for directory in /var/lib/libvirt /var/cache/libvirt /var/log/libvirt; do own $directory; done
	# libvirt's own namespaces want a /dev/pts of their own; no machine's cgroups or LSM are ours to use
	printf '%s\n' 'namespaces = []' 'cgroup_controllers = []' 'security_driver = "none"' \
		>>/etc/libvirt/qemu.conf
	local resolv
	resolv=$(realpath -m /etc/resolv.conf)
	mount -t tmpfs -o mode=755 run /run
	mkdir -p /run/lock "$(dirname "$resolv")"
	[ -e "$resolv" ] || : >"$resolv"
	echo nameserver 10.0.2.3 >"$WORK/resolv.conf" # slirp4netns's, which asks this machine's
	mount --bind "$WORK/resolv.conf" "$resolv"

	ip link set lo up
	cat "$WORK/pid" >"$WORK/wanted"
	[ "$(head -c 1 "$WORK/ready")" = 1 ] || {
		say "no way out of the network namespace: $(cat "$WORK/slirp.log")"
		exit 1
	}
	virtlogd -d
	libvirtd -d
	virsh -q -c qemu:///system version
}

# --- what only this test wants of the VM --------------------------------------

# It is merged before ours: software emulation, where our file leaves the choice open, and
# this machine's pip index and certificates, where they are not everybody's.
overlay() {
	local index bundle=/etc/ssl/certs/ca-certificates.crt
	index=$(python3 -m pip config get global.index-url 2>/dev/null) || index=${PIP_INDEX_URL:-}
	{
		echo '[global]'
		[ -z "$index" ] || echo "index-url = $index"
		[ ! -e $bundle ] || echo 'cert = /usr/local/share/test-certificates.crt'
	} >"$WORK/pip.conf"
	[ -e $bundle ] || : >"$WORK/empty"
	mkdir -p "$VAGRANT_HOME"
	cat >"$VAGRANT_HOME/Vagrantfile" <<-EOV
		Vagrant.configure("2") do |config|
		  config.vm.boot_timeout = 1800
		  config.vm.provider(:libvirt) do |libvirt|
		    libvirt.driver = "qemu"
		    libvirt.cpu_mode = "custom"
		    libvirt.cpu_model = "qemu64"
		    # an interrupt at cmpxchg16b leaves wrong flags in QEMU 7.2: the slab allocator then crashes
		    libvirt.cpu_feature name: "cx16", policy: "disable"
		    # its clock goes a nanosecond an instruction, however slowly that is emulated, so that a
		    # scenario's times mean what they do on a machine
		    libvirt.qemuargs value: "-icount"
		    libvirt.qemuargs value: "shift=0,sleep=on"
		  end
		  config.vm.provision "file", source: "$WORK/pip.conf", destination: "/tmp/pip.conf"
		  config.vm.provision "file", source: "$(realpath -e $bundle || echo "$WORK/empty")",
		    destination: "/tmp/certificates"
		  config.vm.provision "shell", name: "this machine's pip", inline: <<~SHELL
		    cmp -s /tmp/pip.conf /etc/pip.conf || cp /tmp/pip.conf /etc/pip.conf
		    cmp -s /tmp/certificates /usr/local/share/test-certificates.crt ||
		      cp /tmp/certificates /usr/local/share/test-certificates.crt
		    echo 'Acquire::https::CAInfo "/usr/local/share/test-certificates.crt";' >/tmp/apt.conf
		    cmp -s /tmp/apt.conf /etc/apt/apt.conf.d/90test || cp /tmp/apt.conf /etc/apt/apt.conf.d/90test
		  SHELL
		end
	EOV
}

# --- the phases ---------------------------------------------------------------

described() {
	# shellcheck disable=SC2016 # the VM's shell expands it
	in_vm '. /etc/os-release; memory=$(free -m | sed -n "s/^Mem: *\([0-9]*\).*/\1/p")
		bcc=$(dpkg-query -W -f "\${Version}" python3-bpfcc)
		echo "$PRETTY_NAME, Linux $(uname -r), bcc $bcc, $(nproc) processor, $memory MiB"' | tee -a "$WORK/summary.txt"
}

demo() {
	in_vm 'sudo make demo' | tee "$WORK/demo.log"
	grep -aq 'runs: held' "$WORK/demo.log"
}

unit_tests() { in_vm 'sudo make test-unit'; }

kernel_tests() { # those under one observer: emulated, each start of one takes long
	in_vm "sudo ZOMBIEBPF_PATIENCE=$PATIENCE make test-kernel PYTEST_ARGS='-k \"$TESTS\"'"
}

all_tests() { in_vm "sudo ZOMBIEBPF_PATIENCE=$PATIENCE make test"; }

# Whatever on the VM's disk was written since, where no daemon writes by itself.
provision_again() {
	in_vm 'touch /var/tmp/marker'
	vagrant provision
	in_vm 'sudo find / -xdev \( -path /dev -o -path /proc -o -path /run -o -path /sys -o -path /tmp \
		-o -path /var/tmp -o -path /var/log -o -path /var/lib/systemd -o -path /var/lib/sudo \) -prune \
		-o -cnewer /var/tmp/marker -print' | tee "$WORK/changed"
	[ ! -s "$WORK/changed" ] || {
		say "the second provisioning changed what is named above"
		return 1
	}
}

destroyed() {
	vagrant destroy -f
	{ # but the box's volume, which the next `vagrant up` takes
		virsh -q list --all --name
		virsh -q vol-list default | grep -v _vagrant_box_image_ || true
		find "$VAGRANT_DOTFILE_PATH" -name id
		pgrep -a qemu-system || true
	} | grep . >"$WORK/left" || return 0
	say "left behind: $(cat "$WORK/left")"
	return 1
}

enter
overlay
export VAGRANT_DEFAULT_PROVIDER=libvirt ZOMBIEBPF_CPUS=1 # with two, emulated kernels crash now and then
unset ZOMBIEBPF_BOX ZOMBIEBPF_BOX_VERSION ZOMBIEBPF_MEMORY
note 'box' ok "$BOX_SECONDS s"
phase 'vagrant box add' 300 vagrant box add --name $BOX_NAME --provider libvirt "$BOX"
phase 'vagrant validate' 60 vagrant validate
phase 'vagrant up' 3600 vagrant up
[ $failed = 0 ] || exit 1
described
phase 'sudo make demo' 7200 demo
in_vm 'cat build/demo-report.txt' >"$WORK/demo-report.txt" || true
phase 'vagrant provision, again' 900 provision_again
phase 'vagrant halt' 300 vagrant halt
phase 'vagrant up, again' 1800 vagrant up
if [ -n "$WHOLE" ]; then
	phase 'sudo make test' 72000 all_tests
else
	phase 'sudo make test-kernel, the zoo' 7200 kernel_tests
	phase 'sudo make test-unit' 7200 unit_tests
fi
phase 'vagrant destroy, nothing left' 300 destroyed
exit $failed
