# SPDX-License-Identifier: Apache-2.0
"""Build an analysis full of texts that a hostile program may choose."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.life_builders import APP, BEGAN, MS, S, analysis, app, ended, found_dead, zombie
from zombiebpf.model.analysis import Analysis
from zombiebpf.model.join import Join
from zombiebpf.model.life import (
    Activity,
    Actor,
    AdopterKind,
    Execution,
    ReapCall,
    Reparenting,
)
from zombiebpf.model.stack import Frame, Stack

HOSTILE = (
    "</script><script>window.pwned = 1</script>",
    "<img src=x onerror=window.pwned=1>",
    "\"'><svg onload=window.pwned=1>",
    "{{ 7 * 7 }}{% raw %}{# no #}",
    "javascript:window.pwned=1",
    "<!--<script>",
    "]]></style></textarea></title>",
    "&lt;b&gt;&amp;&#x41;",
    "\u2028\u2029\x85",
    "\udcff\ud800 lone",
    "\x00\x01\x1b[31mred\x1b]0;title\x07\x7f",
    "\u202etxt.exe\u200f\ufeff",
    "=HYPERLINK(\"http://x\",\"y\")",
    "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\uff1d1+1", " =1",
    "a,b;c\"d'e\nf\r\ng",
    "%s %n {0} ${x} $(id) `id`",
    "../../etc/passwd\\..\\x",
    "日本語 ünïcødé 🧟 e\u0301",
    "x" * 4096,
    "",
)  # fmt: skip


def hostile() -> Analysis:
    """Build an analysis with a life for each of HOSTILE, which is in all its texts."""
    lives = [app()]
    joins = []
    for number, text in enumerate(HOSTILE):
        frame, actor = Frame(text, text, number), Actor(APP.pid, APP.tid, text)
        stack = Stack((frame, Frame(text, text, None)), text)
        make = zombie if number % 5 == 4 else ended
        life = make(
            60_000 + number, number * MS, comm=text, argv=(text, text), cgroup=text,
            forker=actor, unseen={text: text}, fork_stack=stack, fork_site=frame,
        )  # fmt: skip
        life = life._replace(
            execs=[Execution(BEGAN, text)],
            reparents=[Reparenting(BEGAN + S, actor, actor._replace(pid=5),
                                   AdopterKind.SUBREAPER, False, True)],
            meanwhile=Activity(BEGAN + S, actor, BEGAN, text, stack, frame),
            parent=actor,
        )  # fmt: skip
        if life.reap_call is not None:
            call = ReapCall(text, 0, None, None, text, stack, frame)
            life = life._replace(reaper=actor, reap_call=call)
        lives.append(life)
        if number % 9 == 0:
            dead = found_dead(70_000 + number, comm=text, parent=actor, unseen={text: text})
            lives.append(dead)
        joins.append(
            Join(APP.pid, APP.tid, life.pid, None, BEGAN, BEGAN + S, text, text, (), 5, actor,
                 stack, frame)
        )  # fmt: skip
    text = " ".join(HOSTILE)
    odd = {text: text}
    observed = analysis(
        lives, command=list(HOSTILE), kernel=text, hooks=odd, precision=odd, lost_events=3,
        lost_by={text: 3}, clock=text,
    )  # fmt: skip
    return replace(observed, joins=joins)
