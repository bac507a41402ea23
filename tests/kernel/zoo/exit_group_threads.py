# SPDX-License-Identifier: Apache-2.0
"""A process whose threads have children calls exit_group, many times over.

A child may first go to a sibling thread that has not died yet (no orphaning), any number of
times, and goes to the subreaper in the end.
"""

import threading
from typing import Callable

from harness import raw, truth

ROUNDS, THREADS = 5, 3
raw.become_subreaper()
mine = truth.own_pid()
gate, forked, handed = truth.Gate(), truth.Gate(), truth.Word()


def body_of(number: int) -> Callable[[], int]:
    def run(role: str) -> None:
        def child() -> int:
            handed.send(truth.own_pid())
            gate.wait()
            return 2

        truth.spawn(role, child)
        forked.open()
        truth.forever_asleep()

    def body() -> int:
        for role in truth.roles(f"child {number}", THREADS):
            threading.Thread(target=run, args=(role,), daemon=True).start()
        for _ in range(THREADS):
            forked.wait()
        truth.say(f"process {number}", death=[truth.now(), None])
        return 7

    return body


for number in range(ROUNDS):
    low = truth.now()
    pid = truth.spawn(f"process {number}", body_of(number))
    children = [handed.receive() for _ in range(THREADS)]
    truth.reap(f"process {number}", pid)
    known = truth.known_pids()
    gate.open(THREADS)
    for child in children:
        role = known[child]
        # a thread may die last but one, with all others dying, and send no signal that stamps it
        truth.orphaned(role, pid, mine, "subreaper", False, low, may_be_late=True)
        truth.reap(role, child, by="adopter", thread_reparents="any")
truth.tell()
