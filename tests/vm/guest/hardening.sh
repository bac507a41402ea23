#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In the VM, whose settings may be changed: what docs/hardening.md says of a whole machine.
program=/zombiebpf/.venv/bin/zombiebpf
failed=0

check() { # WHAT EXPECTED-CODE TEXT CMD...: its exit code, and a text that it prints
	what=$1 code=$2 text=$3
	shift 3
	"$@" >/run/told 2>&1
	got=$?
	if [ $got = "$code" ] && grep -q -- "$text" /run/told; then
		echo "ok: $what"
	else
		echo "WRONG: $what: exit $got, wanted $code and '$text'; it said:"
		sed 's/^/    /' /run/told | head -n 20
		failed=1
	fi
}

case $1 in
sysctl)
	for setting in kptr_restrict=2 perf_event_paranoid=3 unprivileged_bpf_disabled=1; do
		sysctl -qw "kernel.$setting" || failed=1
	done
	check 'kptr_restrict=2, perf_event_paranoid=3, unprivileged_bpf_disabled=1' 0 \
		'kernel symbols: addresses are hidden' "$program" doctor
	sysctl -qw kernel.kptr_restrict=1
	# bpf, perfmon, syslog: bullseye's setpriv knows the first two by number only; and 5.10 counts
	# BPF's memory against the limit that sys_resource may raise
	caps=-all,+cap_39,+cap_38,+syslog,+sys_resource
	check 'an ordinary user with capabilities, kptr_restrict=1' 0 'ok  kernel symbols: addresses' \
		setpriv --reuid=65534 --regid=65534 --clear-groups "--inh-caps=$caps" \
		"--ambient-caps=$caps" "--bounding-set=$caps" -- "$program" doctor
	;;
integrity)
	check 'lockdown=integrity' 0 'ok  lockdown: integrity' "$program" doctor
	;;
confidentiality)
	check 'lockdown=confidentiality, doctor' 70 'boot without lockdown=confidentiality' "$program" doctor
	check 'lockdown=confidentiality, run' 70 'lockdown=confidentiality' "$program" run true
	[ "$(wc -l </run/told)" = 1 ] || { echo "WRONG: more than one line"; failed=1; }
	;;
esac
exit $failed
