# SPDX-License-Identifier: Apache-2.0
"""A child that outlives join(timeout) and then ends before its parent: the article's join(3)."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=1.4, child=0.9, timeout=0.3, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.join(child, knobs.timeout)
    story.live(knobs.parent)
    story.fact("parent_work_done")
