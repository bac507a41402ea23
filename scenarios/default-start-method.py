# SPDX-License-Identifier: Apache-2.0
"""A child that ends before its parent, nobody joins, and Python chooses how to start it."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=1.2, child=0.2)
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.fact("start_method", multiprocessing.get_start_method())
    story.live(knobs.parent)
    story.fact("parent_work_done")
