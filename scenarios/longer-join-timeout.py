# SPDX-License-Identifier: Apache-2.0
"""A child that outlives join(timeout) and then its parent's work."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.3, child=1.3, timeout=0.3, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.join(child, knobs.timeout)
    story.live(knobs.parent)
    story.fact("parent_work_done")
