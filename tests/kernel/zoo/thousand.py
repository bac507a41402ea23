# SPDX-License-Identifier: Apache-2.0
"""A dying parent of 1009 children: 507 zombies and 502 that live, mixed, to one subreaper."""

from harness import raw, truth

ZOMBIES, LIVE = 507, 502
raw.become_subreaper()
mine = truth.own_pid()
gate, go, handed = truth.Gate(), truth.Gate(), truth.Word()


def parent() -> None:
    zombies = []
    for number in range(ZOMBIES):
        zombies.append((f"zombie {number}", truth.spawn(f"zombie {number}", lambda: 1)))
        if number < LIVE:
            truth.spawn(f"live {number}", gate.then(2))
    for role, pid in zombies:
        truth.peek(role, pid)
    handed.send(1)
    go.wait()


pid = truth.spawn("parent", parent)
handed.receive()
truth.until(lambda: len(truth.known_pids()) == 1 + ZOMBIES + LIVE, "all children run")
low = truth.now()
go.open()
truth.reap("parent", pid)
children = {role: child for child, role in truth.known_pids().items() if role != "parent"}
for role in children:
    truth.orphaned(role, pid, mine, "subreaper", role.startswith("zombie"), low)
gate.open(LIVE)
for role, child in children.items():
    truth.reap(role, child, by="adopter")
truth.tell()
