#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the VM: the Debian package and the wheel are installed beside each other, and each works.
set -e
cd /
clone=$(echo /zombiebpf/.venv/lib/python3*/site-packages/zombiebpf.pth)
mv "$clone" /run/clone.pth
trap 'mv /run/clone.pth "$clone"' EXIT # later steps run the clone
works() { # PROGRAM
	"$1" --version
	"$1" scenario list | grep -q open-question
	"$1" run --format json --report /run/out/packages.json -- sh -c '(exit 3); true'
	grep -q '"exit_status": 3' /run/out/packages.json
}
echo "the wheel, in a virtualenv that sees nothing of the clone"
python3 -m venv --system-site-packages /run/wheel
/run/wheel/bin/python -m pip install -q --no-index --no-deps /zombiebpf/dist/zombiebpf-*.whl
works /run/wheel/bin/zombiebpf
if python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))'; then
	echo "the Debian package"
	dpkg -i /zombiebpf/dist/zombiebpf_*.deb
	[ "$(command -v zombiebpf)" = /usr/bin/zombiebpf ]
	works zombiebpf
	dpkg --verify zombiebpf
	dpkg -r zombiebpf
	[ ! -e /usr/lib/python3/dist-packages/zombiebpf ]
else
	echo "this Debian's click, rich and yaml are too old for the Debian package: the wheel it is"
	if dpkg -i /zombiebpf/dist/zombiebpf_*.deb 2>/run/refused; then exit 1; fi
	grep -q 'depends on python3-' /run/refused
	dpkg -r zombiebpf
fi
