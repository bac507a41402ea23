# SPDX-License-Identifier: Apache-2.0
"""Several children that all outlive their parent's work; nobody calls join()."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.1, lives=[0.7, 0.9, 0.3, 0.4, 0.6, 0.5, 0.8], start_method="fork")
    for seconds in knobs.lives:
        child = multiprocessing.Process(target=story.live, args=(seconds,))
        child.start()
        story.started(child, "child")
    story.live(knobs.parent)
    story.fact("parent_work_done")
