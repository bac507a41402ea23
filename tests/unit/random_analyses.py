# SPDX-License-Identifier: Apache-2.0
"""Build random analyses, in which every field may be missing, big or odd."""

from __future__ import annotations

import random
from typing import Any, Callable, Optional, TypeVar

from zombiebpf.model.analysis import Analysis, Meta
from zombiebpf.model.join import Child, Join
from zombiebpf.model.life import (
    Activity,
    Actor,
    AdopterKind,
    Execution,
    Life,
    PidNamespace,
    ReapCall,
    ReapedBy,
    Reparenting,
)
from zombiebpf.model.stack import Frame, Stack

Value = TypeVar("Value")

TEXTS = (
    "python3", "", "ünïcödé", "日本語", "two words", "new\nline", "nul\0inside",
    "'; DROP TABLE life", "\udcff\udc80", "half \udcc3 utf-8", "\ud800 alone", "\ud83d\ude00", "😀",
    "%s {} \\x00", "7", "\udcff\udcfe\udc80", "x" * 300,
)  # fmt: skip


class Maker:
    """A source of random values with one seed; its times rise, so no interval is negative."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = self.random.choice([0, 10**9, 2**53, 2**61])
        self.stacks = [self.new_stack() for _ in range(6)]

    def maybe(self, make: Callable[[], Value], probability: float = 0.6) -> Optional[Value]:
        return make() if self.random.random() < probability else None

    def text(self) -> str:
        return self.random.choice(TEXTS)

    def argument(self) -> str:
        """Return a text as decoded from bytes: a lone surrogate is one of U+DC80..U+DCFF."""
        return self.random.choice([each for each in TEXTS if "\ud83d" not in each])

    def number(self) -> int:
        return self.random.choice([0, 1, 7, 2**31, 2**53 + 1, 2**62 + 3, 2**63 - 1])

    def later(self) -> int:
        self.now += self.random.choice([0, 1, 1000, 10**9])
        return self.now

    def some(self, make: Callable[[], Value], most: int = 3) -> tuple[Value, ...]:
        return tuple(make() for _ in range(self.random.randrange(most + 1)))

    def actor(self) -> Actor:
        return Actor(
            self.random.randrange(2**22),
            self.maybe(lambda: 5),
            self.maybe(lambda: self.text()[:15]),
        )

    def frame(self) -> Frame:
        return Frame(self.text(), self.text(), self.maybe(lambda: self.random.randrange(9999)))

    def new_stack(self) -> Stack:
        return Stack(self.some(self.frame, 9), self.maybe(self.text, 0.2))

    def stack(self) -> Stack:
        return self.random.choice(self.stacks)

    def reparenting(self) -> Reparenting:
        return Reparenting(
            self.later(),
            self.actor(),
            self.actor(),
            self.random.choice(list(AdopterKind)),
            self.random.random() < 0.5,
            self.random.random() < 0.5,
        )

    def reap_call(self) -> ReapCall:
        return ReapCall(
            self.maybe(self.text),
            self.maybe(lambda: self.random.choice([-1, 0, 1, 0x40000000])),
            self.maybe(self.number),
            self.maybe(self.number),
            self.maybe(self.text),
            self.maybe(self.stack),
            self.maybe(self.frame),
        )

    def activity(self) -> Activity:
        return Activity(
            self.later(),
            self.actor(),
            self.maybe(self.number),
            self.maybe(self.text),
            self.maybe(self.stack),
            self.maybe(self.frame),
        )

    def life(self, pid: int) -> Life:
        fields: dict[str, Any] = {
            "comm": self.maybe(self.text),
            "argv": self.maybe(lambda: self.some(self.argument)),
            "argv_cut": self.random.random() < 0.5,
            "pidns": self.maybe(lambda: PidNamespace(self.number(), self.number())),
            "cgroup": self.maybe(self.text),
            "forker": self.maybe(self.actor),
            "fork_ns": self.maybe(self.later),
            "fork_stack": self.maybe(self.stack),
            "fork_site": self.maybe(self.frame),
            "parent": self.maybe(self.actor),
            "was_zombie": self.random.random() < 0.2,
            "execs": self.some(lambda: Execution(self.later(), self.maybe(self.text))),
            "exit_ns": self.maybe(self.later),
            "zombie_ns": self.maybe(self.later),
            "zombie_exact": self.random.random() < 0.5,
            "reparents": self.some(self.reparenting),
            "reap_ns": self.maybe(self.later),
            "reap_exact": self.random.random() < 0.5,
            "wait_status": self.maybe(lambda: self.random.randrange(2**16)),
            "reaper": self.maybe(self.actor),
            "reaped_by": self.maybe(lambda: self.random.choice(list(ReapedBy))),
            "reap_call": self.maybe(self.reap_call),
            "meanwhile": self.maybe(self.activity, 0.2),
            "unseen": {self.text(): self.text() for _ in range(self.random.randrange(3))},
        }
        return Life(pid, self.number(), **fields)

    def join(self) -> Join:
        return Join(
            pid=self.maybe(self.number),
            tid=self.maybe(self.number),
            child_pid=self.maybe(self.number),
            timeout_s=self.maybe(lambda: self.random.choice([0.0, 0.1, 1e300, float("inf")])),
            began_ns=self.maybe(self.later),
            ended_ns=self.maybe(self.later),
            returned=self.maybe(self.text),
            kind=self.maybe(self.text),
            children=self.some(lambda: Child(self.number(), self.maybe(self.number))),
            blocked_ns=self.maybe(self.number),
            by=self.maybe(self.actor),
            stack=self.maybe(self.stack),
            site=self.maybe(self.frame),
        )

    def meta(self) -> Meta:
        facts = ("fork", "exec", "exit", "zombie", "reparent", "reap", "wait")
        started = self.now
        return Meta(
            version=self.text(),
            kernel=self.text(),
            hooks={each: self.text() for each in facts if self.random.random() < 0.8},
            precision={each: self.text() for each in facts if self.random.random() < 0.8},
            started_ns=started,
            ended_ns=started + self.random.randrange(2**40),
            command=self.some(self.argument),
            lost_events=self.number(),
            lost_by={self.text(): self.number() for _ in range(self.random.randrange(3))},
            started_wall=self.maybe(lambda: self.random.random() * 2e9),
            boottime_offset_ns=self.number(),
            not_collected=self.some(self.argument),
            cut=self.maybe(self.text, 0.2),
        )

    def analysis(self, most: int = 12) -> Analysis:
        meta = self.meta()
        count = self.random.randrange(most)
        lives = sorted(
            map(self.life, range(1, count + 1)), key=lambda life: (life.fork_ns or 0, life.start_ns)
        )
        joins = self.maybe(
            lambda: sorted(self.some(self.join, 6), key=lambda join: join.began_ns or 0)
        )
        return Analysis(meta, lives, joins)
