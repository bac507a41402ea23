# SPDX-License-Identifier: Apache-2.0
"""join() with a timeout far longer than the child lives."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.1, child=0.4, timeout=20, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.join(child, knobs.timeout)
    story.live(knobs.parent)
