# SPDX-License-Identifier: Apache-2.0
"""A child that ends within join(timeout), and before its parent."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.6, child=0.3, timeout=1.5, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.join(child, knobs.timeout)
    story.live(knobs.parent)
