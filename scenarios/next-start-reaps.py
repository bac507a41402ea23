# SPDX-License-Identifier: Apache-2.0
"""Two children, one after the other; nobody calls join()."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(child=0.1, pause=0.8, start_method="fork")
    for role in ("first", "second"):
        child = multiprocessing.Process(target=story.live, args=(knobs.child,))
        child.start()
        story.started(child, role)
        story.live(knobs.child + knobs.pause)
