# SPDX-License-Identifier: Apache-2.0
"""Expectations on each process of a role: how it ended, who reaped it, who adopted it."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from typing import Optional

from zombiebpf.model.life import Life, ReapedBy, State, signal_name
from zombiebpf.scenario.bounds import TIME_BOUNDS, Bounds, Tristate, all_of
from zombiebpf.scenario.kind import Context, Kind, LifeKind, Shown, reference
from zombiebpf.scenario.nodes import Fields
from zombiebpf.scenario.observed_run import ObservedRun
from zombiebpf.scenario.sentences import OPTIONS, WORDS, call_words, seconds

HOW = ("parent", "adopter", "tracer", "kernel")
THREADS = ("main", "other")
SIGNALS = [each.name for each in signal.Signals]


class ZombieFor(LifeKind):
    """zombie: for how long; `never: true` if the kernel should release it at once."""

    KEYS = ("of", "any", *TIME_BOUNDS, "never")
    verb = "were zombies for"

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.never = fields.flag("never")
        self.bounds = Bounds.read(fields, context.knobs, needed=not self.never)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child is a zombie for above 480 ms`."""
        if self.never:
            return f"{self.subject} is never a zombie"
        return f"{self.subject} is a zombie for {self.bounds.words(knobs, seconds)}"

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        if self.never:
            return _never_zombie(life)
        if life.reaped_by is ReapedBy.KERNEL and life.zombie_ns is None:
            return Shown(self.bounds.hold(0, 0, observed.knobs), "was no zombie at all", 0)
        low, high, text = _zombie_span(life, observed.ended_ns)
        if low is None:
            return Shown(None, text)
        held = self.bounds.hold_ns(low, high, observed.knobs)
        return Shown(held, text, low if low == high else None)


def _never_zombie(life: Life) -> Shown:
    if life.zombie_ns is not None:
        span = life.zombie_interval_ns
        return Shown(False, "was a zombie" + (f" for {WORDS.duration(span)}" if span else ""))
    if life.reaped_by is ReapedBy.KERNEL:
        return Shown(True, "was released by the kernel, without having been a zombie")
    return Shown(None, "was not seen as a zombie, and why is not known")


def _zombie_span(life: Life, ended_ns: int) -> tuple[Optional[int], Optional[int], str]:
    """Return the known range of its zombie interval: low and high in ns, and in words."""
    if life.state is State.RUNNING:
        return None, None, "had not ended when the observation did"
    latency = life.reap_latency_ns
    if life.zombie_ns is None:
        if latency is None:
            return None, None, "was not seen as a zombie"
        return 0, latency, f"was a zombie for {WORDS.duration(latency)} at most"
    interval = life.zombie_interval_ns
    if interval is None:
        so_far = max(ended_ns - life.zombie_ns, 0)
        text = f"was still a zombie when the observation ended, for {WORDS.duration(so_far)}"
        return so_far, None, text
    interval = max(interval, 0)
    if not life.zombie_exact:
        return interval, latency, f"was a zombie for {WORDS.duration(interval)} at least"
    if not life.reap_exact:
        return 0, interval, f"was a zombie for {WORDS.duration(interval)} at most"
    return interval, interval, f"was a zombie for {WORDS.duration(interval)}"


class Reaped(LifeKind):
    """reaped: by which role, as parent or adopter, by which call; `never: true`: not at all."""

    KEYS = ("of", "any", "by", "how", "options", "syscall", "thread", "never")

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.by = fields.read("by", reference)
        self.how = fields.read("how", lambda node: node.one_of("how", HOW))
        self.syscall = fields.read("syscall", lambda node: node.text("syscall"))
        self.thread = fields.read("thread", lambda node: node.one_of("thread", THREADS))
        self.blocking = False
        self.options: tuple[str, ...] = ()
        if "options" in fields:
            if fields["options"].is_sequence:
                self.options = fields["options"].some_of("an option", tuple(OPTIONS))
            else:
                fields["options"].one_of("options", ("blocking",))
                self.blocking = True
        self.never = fields.flag("never")
        given = [name for name in self.KEYS[2:] if name in fields]
        if not given:
            raise fields.node.error("reaped says nothing", "by: parent")
        if self.never and len(given) > 1:
            raise fields["never"].error("never stands alone")

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child is reaped by parent with wait4, blocking`."""
        if self.never:
            return f"{self.subject} is never reaped"
        text = f"{self.subject} is reaped"
        if self.by:
            text += f" by {self.by}"
        if self.how and self.how != self.by:
            text += f" as its {self.how}" if self.how != "kernel" else " by the kernel itself"
        if self.thread:
            text += " in its main thread" if self.thread == "main" else " in another thread"
        if self.syscall:
            text += f" with {self.syscall}"
        if self.blocking:
            text += ", blocking"
        if self.options:
            text += f" ({'|'.join(self.options)})"
        return text

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        text, by = _reaped_words(life, observed), life.reaped_by
        if life.reap_ns is None or self.never:
            return Shown(self.never and life.reap_ns is None, text)
        verdicts: list[Tristate] = []
        if self.how:
            known = by is not None and by is not ReapedBy.UNSEEN
            verdicts.append(by.value == self.how if by and known else None)
        if self.by:
            verdicts.append(_reaped_by(self.by, life, observed))
        if self.thread:
            actor = life.reaper
            known_thread = actor is not None and actor.tid is not None
            main = actor is not None and actor.tid == actor.pid
            verdicts.append((main == (self.thread == "main")) if known_thread else None)
        verdicts += self._call(life)
        return Shown(all_of(verdicts), text)

    def _call(self, life: Life) -> list[Tristate]:
        call, verdicts = life.reap_call, list[Tristate]()
        if life.reaped_by is ReapedBy.KERNEL:
            return [False] if self.syscall or self.blocking or self.options else []
        if self.syscall:
            name = call.syscall if call is not None else None
            verdicts.append(None if not name else name == self.syscall)
        options = call.options if call is not None else None
        if self.blocking:
            verdicts.append(None if options is None else _blocks(options))
        for option in self.options:
            verdicts.append(None if options is None else bool(options & OPTIONS[option]))
        return verdicts


def _blocks(options: int) -> bool:
    return not options & os.WNOHANG


def _reaped_by(reference: str, life: Life, observed: ObservedRun) -> Tristate:
    if life.reaped_by is ReapedBy.KERNEL:
        return False
    if life.reaper is None or life.reap_ns is None:
        return None
    return observed.plays(reference, life.reaper, life.reap_ns, life)


def _reaper_name(life: Life, observed: ObservedRun) -> str:
    if life.reaper is None or life.reap_ns is None:
        return "somebody unseen"
    return observed.actor(life.reaper, life.reap_ns)


def _reaped_words(life: Life, observed: ObservedRun) -> str:
    if life.reap_ns is None:
        return "was not reaped as long as it was observed"
    if life.reaped_by is ReapedBy.KERNEL:
        return "was released by the kernel: nobody waited"
    who = _reaper_name(life, observed)
    how = ""
    if life.reaped_by is not None and life.reaped_by is not ReapedBy.UNSEEN:
        how = f" as its {life.reaped_by.value}"
    thread = ""
    if life.reaper is not None and life.reaper.tid not in (None, life.reaper.pid):
        thread = f" in thread {life.reaper.tid}"
    call = call_words(life.reap_call)
    return f"was reaped by {who}{how}{thread}" + (f" with {call}" if call else "")


class Reparented(LifeKind):
    """reparented: to which role, as a zombie or before; `never: true` if it keeps its parent."""

    KEYS = ("of", "any", "to", "while_zombie", "never")

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.to = fields.read("to", reference)
        self.while_zombie = fields.read("while_zombie", lambda node: node.boolean("while_zombie"))
        self.never = fields.flag("never")
        if self.never and (self.to or self.while_zombie is not None):
            raise fields["never"].error("never stands alone")

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child is reparented to init as a zombie`."""
        if self.never:
            return f"{self.subject} is never reparented"
        text = f"{self.subject} is reparented" + (f" to {self.to}" if self.to else "")
        if self.while_zombie is None:
            return text
        return text + (" as a zombie" if self.while_zombie else " while it lives")

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        if "reparents" in life.unseen:
            return Shown(None, f"was reparented, unseen: {life.unseen['reparents']}")
        if not life.reparents:
            return Shown(self.never, "kept its parent")
        texts, verdicts = [], []
        for each in life.reparents:
            zombie = "as a zombie" if each.while_zombie else "while it lived"
            texts.append(f"was reparented to {observed.actor(each.to, each.ns)} {zombie}")
            right = self.to is None or observed.plays(self.to, each.to, each.ns, life)
            verdicts.append(right and self.while_zombie in (None, each.while_zombie))
        return Shown(not self.never and any(verdicts), ", ".join(texts))


class Ended(LifeKind):
    """ended: with which status or by which signal."""

    KEYS = ("of", "any", "exit", "signal")

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        if ("exit" in fields) == ("signal" in fields):
            raise fields.node.error("ended needs exit or signal", "exit: 0, or signal: SIGTERM")
        self.exit = fields.read("exit", lambda node: node.integer("exit"))
        self.signal = fields.read("signal", lambda node: node.one_of("signal", SIGNALS))

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child exits with 0` or `child is killed by SIGTERM`."""
        how = f"exits with {self.exit}" if self.signal is None else f"is killed by {self.signal}"
        return f"{self.subject} {how}"

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        if life.signal is not None:
            name = signal_name(life.signal)
            return Shown(name == self.signal, f"was killed by {name}")
        if life.exit_status is not None:
            held = self.signal is None and life.exit_status == self.exit
            return Shown(held, f"exited with {life.exit_status}")
        if life.state is State.RUNNING and life.exit_ns is None:
            return Shown(False, "had not ended when the observation did")
        return Shown(None, "ended, how was not seen")


class Lasted(LifeKind):
    """lasted: how long it lived, from its fork to its exit."""

    KEYS = ("of", "any", *TIME_BOUNDS)
    verb = "lived for"

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.bounds = Bounds.read(fields, context.knobs)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `child lives for about 1 s`."""
        return f"{self.subject} lives for {self.bounds.words(knobs, seconds)}"

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        if life.fork_ns is None:
            return Shown(None, "was forked unseen")
        if life.exit_ns is None:
            if life.state is not State.RUNNING:
                return Shown(None, "ended, when was not seen")
            so_far = observed.ended_ns - life.fork_ns
            held = self.bounds.hold_ns(so_far, None, observed.knobs)
            return Shown(held, f"still lived after {WORDS.duration(so_far)}")
        lived = life.exit_ns - life.fork_ns
        held = self.bounds.hold_ns(lived, lived, observed.knobs)
        return Shown(held, f"lived for {WORDS.duration(lived)}", lived)


class Waited(LifeKind):
    """waited: how long the reaper had been in its wait call when it reaped."""

    KEYS = ("of", "any", "by", "blocking", *TIME_BOUNDS)
    verb = "were waited for"

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.by = fields.read("by", reference)
        self.blocking = fields.read("blocking", lambda node: node.boolean("blocking"))
        needed = self.by is None and self.blocking is None
        self.bounds = Bounds.read(fields, context.knobs, needed=needed)

    def words(self, knobs: Mapping[str, object]) -> str:
        """Return `parent waits for child, blocking, about 1 s`."""
        text = f"{self.by or 'somebody'} waits for {self.subject}"
        if self.blocking is not None:
            text += ", blocking" if self.blocking else " with WNOHANG"
        return text + (f", {self.bounds.words(knobs, seconds)}" if self.bounds else "")

    def _judge_life(self, life: Life, observed: ObservedRun) -> Shown:
        if life.reap_ns is None or life.reaped_by is ReapedBy.KERNEL:
            return Shown(False, _reaped_words(life, observed))
        call, verdicts = life.reap_call, list[Tristate]()
        if self.by:
            verdicts.append(_reaped_by(self.by, life, observed))
        options = call.options if call is not None else None
        if self.blocking is not None:
            verdicts.append(None if options is None else self.blocking == _blocks(options))
        blocked = call.blocked_ns if call is not None else None
        who = _reaper_name(life, observed)
        text = f"was waited for by {who} in {call_words(call) or 'a call unseen'}"
        if blocked is not None:
            text += f" for {WORDS.duration(blocked)}"
        if self.bounds:
            verdicts.append(
                None if blocked is None else self.bounds.hold_ns(blocked, blocked, observed.knobs)
            )
        return Shown(all_of(verdicts), text)


KINDS: Mapping[str, type[Kind]] = {
    "zombie": ZombieFor,
    "reaped": Reaped,
    "reparented": Reparented,
    "ended": Ended,
    "lasted": Lasted,
    "waited": Waited,
}
