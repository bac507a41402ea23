# SPDX-License-Identifier: Apache-2.0
"""The article's open question: a child outlives its parent's work, and nobody calls join().

Who waits for the child, and how does the parent know when it has ended?
"""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.3, child=0.9, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    story.fact("parent_work_done")  # the last line of the parent's program
