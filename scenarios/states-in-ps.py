# SPDX-License-Identifier: Apache-2.0
"""What ps prints of a child that lives, of one that has ended, and of a parent that waits."""

import multiprocessing
import os
import time

import story


def ps(pid):
    """Return STAT and COMMAND of a process as ps prints them, from the files that ps reads."""
    with open("/proc/{}/stat".format(pid)) as file:
        name, _, rest = file.read().partition("(")[2].rpartition(")")
    with open("/proc/{}/cmdline".format(pid)) as file:
        command = file.read().replace("\0", " ").strip()
    state, _, group, _, _, foreground = rest.split()[:6]
    line = state + ("+ " if group == foreground else " ") + (command or "[{}]".format(name))
    return line + " <defunct>" if state == "Z" else line


def child_life(seconds, parent):
    story.live(seconds)
    story.fact("waiting_parent", ps(parent))
    story.fact("waiting_parent_state", ps(parent)[0])


if __name__ == "__main__":
    knobs = story.knobs(parent=1.2, short=0.6, long=1.8, start_method="fork")
    short = multiprocessing.Process(target=time.sleep, args=(knobs.short,))
    long = multiprocessing.Process(target=child_life, args=(knobs.long, os.getpid()))
    short.start()
    story.started(short, "short")
    long.start()
    story.started(long, "long")

    story.live(knobs.short / 2)
    story.fact("living_child", ps(short.pid))
    story.fact("living_child_state", ps(short.pid)[0])
    story.live(knobs.parent - knobs.short / 2)
    story.fact("ended_child", ps(short.pid))
    story.fact("ended_child_state", ps(short.pid)[0])
    story.fact("ended_child_is_defunct", ps(short.pid).endswith("] <defunct>"))
