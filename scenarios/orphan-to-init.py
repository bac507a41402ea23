# SPDX-License-Identifier: Apache-2.0
"""A child whose parent is killed where nobody but init adopts orphans."""

import multiprocessing
import os
import signal

import story


def child_life(seconds, parent):
    story.fact("ppid_before_is_parent", os.getppid() == parent)
    story.live(seconds)
    story.fact("ppid_after_is_parent", os.getppid() == parent)
    story.fact("ppid_after", os.getppid())


if __name__ == "__main__":
    knobs = story.knobs(parent=0.8, child=1.3, start_method="fork")
    child = multiprocessing.Process(target=child_life, args=(knobs.child, os.getpid()))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    os.kill(os.getpid(), signal.SIGKILL)  # the article types this kill by hand
