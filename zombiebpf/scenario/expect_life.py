# SPDX-License-Identifier: Apache-2.0
"""Expectations on the life of each process of a role: how it ended, and what became of it."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from typing import Optional

from zombiebpf.life import Life, ReapedBy, State, signal_name
from zombiebpf.scenario.bounds import TIME_BOUNDS, Bounds, Truth, all_of
from zombiebpf.scenario.calls import OPTIONS, WNOHANG, call_words
from zombiebpf.scenario.kind import Context, Kind, LifeKind, Shown, reference
from zombiebpf.scenario.nodes import Fields
from zombiebpf.scenario.scene import Scene, duration, seconds

HOW = ("parent", "adopter", "tracer", "kernel")
S = 1_000_000_000


class ZombieFor(LifeKind):
    """zombie: how long it was one; `never: true` if the kernel should release it without."""

    KEYS = (*TIME_BOUNDS, "never")
    verb = "were zombies for"

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.never = "never" in fields and fields["never"].truth("never")
        self.bounds = Bounds.read(fields, context.knobs, needed=not self.never)

    def words(self, knobs: Mapping[str, object]) -> str:
        if self.never:
            return f"{self.subject} is never a zombie"
        return f"{self.subject} is a zombie for {self.bounds.words(knobs, seconds)}"

    def one(self, life: Life, scene: Scene) -> Shown:
        if self.never:
            return _never_zombie(life)
        if life.reaped_by is ReapedBy.KERNEL and life.zombie_ns is None:
            return Shown(self.bounds.hold(0, 0, scene.knobs), "was no zombie at all", 0)
        low, high, text = _zombie_span(life, scene.ended_ns)
        if low is None:
            return Shown(None, text)
        held = self.bounds.hold(low / S, None if high is None else high / S, scene.knobs)
        return Shown(held, text, low if low == high else None)


def _never_zombie(life: Life) -> Shown:
    if life.zombie_ns is not None:
        span = life.zombie_interval_ns
        return Shown(False, "was a zombie" + (f" for {duration(span)}" if span else ""))
    if life.reaped_by is ReapedBy.KERNEL:
        return Shown(True, "was released by the kernel, without having been a zombie")
    return Shown(None, "was not seen as a zombie, and why is not known")


def _zombie_span(life: Life, ended_ns: int) -> tuple[Optional[int], Optional[int], str]:
    """What is known of its zombie interval: [low, high] in ns, and in words."""
    if life.state is State.RUNNING:
        return None, None, "had not ended when the observation did"
    latency = life.reap_latency_ns
    if life.zombie_ns is None:
        if latency is None:
            return None, None, "was not seen as a zombie"
        return 0, latency, f"was a zombie for {duration(latency)} at most"
    interval = life.zombie_interval_ns
    if interval is None:
        so_far = max(ended_ns - life.zombie_ns, 0)
        return (
            so_far,
            None,
            f"was still a zombie when the observation ended, for {duration(so_far)}",
        )
    interval = max(interval, 0)
    if not life.zombie_exact:
        high = latency if latency is not None else None
        return interval, high, f"was a zombie for {duration(interval)} at least"
    if not life.reap_exact:
        return 0, interval, f"was a zombie for {duration(interval)} at most"
    return interval, interval, f"was a zombie for {duration(interval)}"


class Reaped(LifeKind):
    """reaped: by whom, as what, by which call; `never: true` if nobody should."""

    KEYS = ("by", "how", "options", "syscall", "thread", "never")

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.by = reference(fields["by"]) if "by" in fields else None
        self.how = fields["how"].one_of("how", HOW) if "how" in fields else None
        self.syscall = fields["syscall"].text("syscall") if "syscall" in fields else None
        self.thread = (
            fields["thread"].one_of("thread", ("main", "other")) if "thread" in fields else None
        )
        self.blocking = False
        self.options: tuple[str, ...] = ()
        if "options" in fields:
            if fields["options"].is_sequence:
                self.options = fields["options"].some_of("an option", tuple(OPTIONS))
            else:
                fields["options"].one_of("options", ("blocking",))
                self.blocking = True
        self.never = "never" in fields and fields["never"].truth("never")
        given = [name for name in self.KEYS if name in fields]
        if not given:
            raise fields.node.wrong("reaped says nothing", "by: parent")
        if self.never and len(given) > 1:
            raise fields["never"].wrong("never stands alone")

    def words(self, knobs: Mapping[str, object]) -> str:
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

    def one(self, life: Life, scene: Scene) -> Shown:
        if life.state is not State.REAPED or life.reap_ns is None:
            return Shown(self.never, "was not reaped as long as it was observed")
        text = _reaped_words(life, scene)
        if self.never:
            return Shown(False, text)
        truths: list[Truth] = []
        unseen = life.reaped_by in (None, ReapedBy.UNSEEN)
        if self.how:
            known = life.reaped_by.value if life.reaped_by else None
            truths.append(None if unseen else known == self.how)
        if self.by:
            truths.append(_reaped_by(self.by, life, scene))
        if self.thread:
            actor = life.reaper
            known_thread = actor is not None and actor.tid is not None
            main = actor is not None and actor.tid == actor.pid
            truths.append((main == (self.thread == "main")) if known_thread else None)
        truths += self._call(life)
        return Shown(all_of(truths), text)

    def _call(self, life: Life) -> list[Truth]:
        call, truths = life.reap_call, list[Truth]()
        if life.reaped_by is ReapedBy.KERNEL:
            return [False] if self.syscall or self.blocking or self.options else []
        if self.syscall:
            truths.append(
                None if call is None or not call.syscall else call.syscall == self.syscall
            )
        options = call.options if call is not None else None
        if self.blocking:
            truths.append(None if options is None else not options & WNOHANG)
        for option in self.options:
            truths.append(None if options is None else bool(options & OPTIONS[option]))
        return truths


def _reaped_by(reference: str, life: Life, scene: Scene) -> Truth:
    if life.reaped_by is ReapedBy.KERNEL:
        return False
    if life.reaper is None or life.reap_ns is None:
        return None
    return scene.plays(reference, life.reaper, life.reap_ns, life)


def _reaped_words(life: Life, scene: Scene) -> str:
    assert life.reap_ns is not None
    if life.reaped_by is ReapedBy.KERNEL:
        return "was released by the kernel: nobody waited"
    who = "somebody unseen" if life.reaper is None else scene.actor(life.reaper, life.reap_ns)
    how = ""
    if life.reaped_by is not None and life.reaped_by is not ReapedBy.UNSEEN:
        how = f" as its {life.reaped_by.value}"
    thread = ""
    if life.reaper is not None and life.reaper.tid not in (None, life.reaper.pid):
        thread = f" in thread {life.reaper.tid}"
    call = call_words(life.reap_call)
    return f"was reaped by {who}{how}{thread}" + (f" with {call}" if call else "")


class Reparented(LifeKind):
    """reparented: to whom, as a zombie or before; `never: true` if it should keep its parent."""

    KEYS = ("to", "while_zombie", "never")

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.to = reference(fields["to"]) if "to" in fields else None
        self.while_zombie = (
            fields["while_zombie"].truth("while_zombie") if "while_zombie" in fields else None
        )
        self.never = "never" in fields and fields["never"].truth("never")
        if self.never and (self.to or self.while_zombie is not None):
            raise fields["never"].wrong("never stands alone")

    def words(self, knobs: Mapping[str, object]) -> str:
        if self.never:
            return f"{self.subject} is never reparented"
        text = f"{self.subject} is reparented" + (f" to {self.to}" if self.to else "")
        if self.while_zombie is None:
            return text
        return text + (" as a zombie" if self.while_zombie else " while it lives")

    def one(self, life: Life, scene: Scene) -> Shown:
        if "reparents" in life.unseen:
            return Shown(None, f"was reparented, unseen: {life.unseen['reparents']}")
        if not life.reparents:
            return Shown(self.never, "kept its parent")
        texts, verdicts = [], []
        for each in life.reparents:
            zombie = "as a zombie" if each.while_zombie else "while it lived"
            texts.append(f"was reparented to {scene.actor(each.to, each.ns)} {zombie}")
            right = self.to is None or scene.plays(self.to, each.to, each.ns, life)
            verdicts.append(right and self.while_zombie in (None, each.while_zombie))
        return Shown(not self.never and any(verdicts), ", ".join(texts))


class Ended(LifeKind):
    """ended: with which status or by which signal."""

    KEYS = ("exit", "signal")

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        if ("exit" in fields) == ("signal" in fields):
            raise fields.node.wrong("ended needs exit or signal", "exit: 0, or signal: SIGTERM")
        self.exit = fields["exit"].whole("exit") if "exit" in fields else None
        self.signal = (
            fields["signal"].one_of("signal", [each.name for each in signal.Signals])
            if "signal" in fields
            else None
        )

    def words(self, knobs: Mapping[str, object]) -> str:
        how = f"exits with {self.exit}" if self.signal is None else f"is killed by {self.signal}"
        return f"{self.subject} {how}"

    def one(self, life: Life, scene: Scene) -> Shown:
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
    """lasted: from its fork to its exit."""

    KEYS = TIME_BOUNDS
    verb = "lived for"

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.bounds = Bounds.read(fields, context.knobs)

    def words(self, knobs: Mapping[str, object]) -> str:
        return f"{self.subject} lives for {self.bounds.words(knobs, seconds)}"

    def one(self, life: Life, scene: Scene) -> Shown:
        if life.fork_ns is None:
            return Shown(None, "was forked unseen")
        if life.exit_ns is None:
            if life.state is not State.RUNNING:
                return Shown(None, "ended, when was not seen")
            so_far = scene.ended_ns - life.fork_ns
            held = self.bounds.hold(so_far / S, None, scene.knobs)
            return Shown(held, f"still lived after {duration(so_far)}")
        lived = life.exit_ns - life.fork_ns
        held = self.bounds.hold(lived / S, lived / S, scene.knobs)
        return Shown(held, f"lived for {duration(lived)}", lived)


class Waited(LifeKind):
    """waited: how long the reaper's call had stood in the kernel when it reaped."""

    KEYS = ("by", "blocking", *TIME_BOUNDS)
    verb = "were waited for"

    def __init__(self, fields: Fields, context: Context) -> None:
        super().__init__(fields, context)
        self.by = reference(fields["by"]) if "by" in fields else None
        self.blocking = fields["blocking"].truth("blocking") if "blocking" in fields else None
        needed = self.by is None and self.blocking is None
        self.bounds = Bounds.read(fields, context.knobs, needed=needed)

    def words(self, knobs: Mapping[str, object]) -> str:
        text = f"{self.by or 'somebody'} waits for {self.subject}"
        if self.blocking is not None:
            text += ", blocking" if self.blocking else " with WNOHANG"
        return text + (f", {self.bounds.words(knobs, seconds)}" if self.bounds else "")

    def one(self, life: Life, scene: Scene) -> Shown:
        if life.reap_ns is None:
            return Shown(False, "was not reaped as long as it was observed")
        if life.reaped_by is ReapedBy.KERNEL:
            return Shown(False, "was released by the kernel: nobody waited")
        call, truths = life.reap_call, list[Truth]()
        if self.by:
            truths.append(_reaped_by(self.by, life, scene))
        options = call.options if call is not None else None
        if self.blocking is not None:
            truths.append(None if options is None else self.blocking == (not options & WNOHANG))
        blocked = call.blocked_ns if call is not None else None
        who = "somebody unseen" if life.reaper is None else scene.actor(life.reaper, life.reap_ns)
        text = f"was waited for by {who} in {call_words(call) or 'a call unseen'}"
        if blocked is not None:
            text += f" for {duration(blocked)}"
        if self.bounds:
            truths.append(
                None if blocked is None else self.bounds.hold(blocked / S, blocked / S, scene.knobs)
            )
        return Shown(all_of(truths), text)


KINDS: Mapping[str, type[Kind]] = {
    "zombie": ZombieFor,
    "reaped": Reaped,
    "reparented": Reparented,
    "ended": Ended,
    "lasted": Lasted,
    "waited": Waited,
}
