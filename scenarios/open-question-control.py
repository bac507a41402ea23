# SPDX-License-Identifier: Apache-2.0
"""The open question's control: the same program, but its parent skips Python's own exit."""

import multiprocessing
import os

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.3, child=0.9, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    story.fact("parent_work_done")
    os._exit(0)  # exits at once, without calling the functions registered with atexit
