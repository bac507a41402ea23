# SPDX-License-Identifier: Apache-2.0
"""A child that outlives its parent's work; the parent calls join() first."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.3, child=0.6, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.join(child)
    story.live(knobs.parent)
