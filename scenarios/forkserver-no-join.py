# SPDX-License-Identifier: Apache-2.0
"""A child that ends before its parent, forked by a server; nobody calls join()."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=1.0, child=0.3, start_method="forkserver")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    story.fact("parent_work_done")
