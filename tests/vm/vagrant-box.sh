#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/vm/vagrant-box.sh OUT.box: a libvirt box of Debian 12, as the public one is
# in what the Vagrantfile relies on, made from Debian's packages alone, by root. No
# box is downloaded and no loop device is needed. tests/vm/vagrant-check.sh calls it.
set -euo pipefail

readonly MEBIBYTES=3000 SECTORS=2048
out=$(realpath -m "$1")
work=$(mktemp -d "${TMPDIR:-/var/tmp}/zombiebpf-box.XXXXXX")
trap 'rm -rf "$work"' EXIT
key=$(find /usr/share -name vagrant.pub -path '*keys*' -print -quit)
# the one that apt uses for this machine's own Debian
mirror=${ZOMBIEBPF_VM_MIRROR:-$(apt-get indextargets --format "\$(ORIGIN) \$(SITE)" "Created-By: Packages" |
	sed -n 's/^Debian //p' | sed -n 1p)}
[ -n "$mirror" ] || { echo "vagrant-box: apt knows no mirror of Debian: name one by ZOMBIEBPF_VM_MIRROR" >&2; exit 1; }

cat >"$work/essential" <<'EOS'
#!/bin/sh
set -e
mkdir -p "$1/etc/initramfs-tools/conf.d"
echo MODULES=list >"$1/etc/initramfs-tools/conf.d/vm"
printf 'virtio_%s\n' pci blk net scsi >"$1/etc/initramfs-tools/modules"
EOS
cat >"$work/customize" <<EOS
#!/bin/sh
set -e
key=$key
EOS
cat >>"$work/customize" <<'EOS'
chroot "$1" useradd -m -s /bin/bash vagrant
echo vagrant:vagrant | chroot "$1" chpasswd
echo 'vagrant ALL=(ALL) NOPASSWD: ALL' >"$1/etc/sudoers.d/vagrant"
install -d -m 700 -o 1000 -g 1000 "$1/home/vagrant/.ssh"
install -m 600 -o 1000 -g 1000 "$key" "$1/home/vagrant/.ssh/authorized_keys"
cat >"$1/etc/systemd/network/10-dhcp.network" <<'EON'
[Match]
Name=en* eth*
[Network]
DHCP=yes
IPv6AcceptRA=no
[DHCPv4]
ClientIdentifier=mac
EON
chroot "$1" systemctl enable systemd-networkd ssh
chroot "$1" systemctl mask systemd-networkd-wait-online.service apt-daily.timer \
	apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer
echo 'LABEL=vmroot / ext4 defaults 0 0' >"$1/etc/fstab"
echo debian12 >"$1/etc/hostname"
echo '127.0.0.1 localhost debian12' >"$1/etc/hosts"
echo 'UseDNS no' >>"$1/etc/ssh/sshd_config"
: >"$1/etc/machine-id"
rm -f "$1/etc/resolv.conf"
echo nameserver 192.168.121.1 >"$1/etc/resolv.conf" # dnsmasq of vagrant-libvirt's network
mkdir -p "$1/boot/grub"
cat >"$1/boot/grub/grub.cfg" <<'EOG'
set timeout=0
menuentry debian {
 linux /vmlinuz root=LABEL=vmroot ro console=ttyS0 net.ifnames=0 quiet
 initrd /initrd.img
}
EOG
EOS
chmod +x "$work/essential" "$work/customize"

packages=systemd-sysv,udev,dbus,libpam-systemd,openssh-server,sudo,rsync,iproute2,kmod,procps
packages+=,linux-image-cloud-amd64,initramfs-tools,ca-certificates
mmdebstrap --mode=root --variant=minbase --quiet --include="$packages" \
	--aptopt='APT::Install-Recommends "false"' \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' \
	--essential-hook="$work/essential" --customize-hook="$work/customize" \
	bookworm "$work/root.tar" "$mirror"
mkdir "$work/root"
tar -xf "$work/root.tar" -C "$work/root"
rm "$work/root.tar"

truncate -s 4G "$work/disk"
mke2fs -q -F -t ext4 -E offset=$((SECTORS * 512)) -m 0 -L vmroot -d "$work/root" "$work/disk" ${MEBIBYTES}M
grub-mkimage -O i386-pc -p '(hd0,msdos1)/boot/grub' -o "$work/core" \
	biosdisk part_msdos ext2 normal linux configfile test echo
python3 - "$work/disk" "$work/core" $MEBIBYTES $SECTORS <<'EOP'
import struct
import sys

disk, core, size, start = sys.argv[1], open(sys.argv[2], "rb").read(), *map(int, sys.argv[3:])
assert len(core) < (start - 1) * 512
with open("/usr/lib/grub/i386-pc/boot.img", "rb") as file:
    mbr = bytearray(file.read(512).ljust(512, b"\0"))  # it loads what follows it: core.img
mbr[440:446] = struct.pack("<IH", 0x564D4C42, 0)
mbr[446:512] = bytes(66)
entry = (0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", start, size * 2048)
mbr[446:462] = struct.pack("<B3sB3sII", *entry)
mbr[510:512] = b"\x55\xaa"
with open(disk, "r+b") as file:
    file.write(mbr)
    file.write(core)
EOP
qemu-img convert -O qcow2 "$work/disk" "$work/box.img"
echo '{"provider": "libvirt", "format": "qcow2", "virtual_size": 4}' >"$work/metadata.json"
echo 'Vagrant.configure("2") { |config| }' >"$work/Vagrantfile"
mkdir -p "$(dirname "$out")"
tar -C "$work" -c metadata.json Vagrantfile box.img | gzip -1 >"$out.part"
mv "$out.part" "$out"
