# SPDX-License-Identifier: Apache-2.0
"""An orphan that ends while its adopter is busy with other things."""

import multiprocessing
import os

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.1, child=0.7, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    os._exit(0)  # the child is an orphan from here on
