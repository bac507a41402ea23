# SPDX-License-Identifier: Apache-2.0
"""A child that ends and is a zombie when its parent, too, dies without having waited."""

import multiprocessing
import os

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=1.0, child=0.1, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    os._exit(0)  # skips the exit handlers: nobody waits for the child
