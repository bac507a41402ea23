# SPDX-License-Identifier: Apache-2.0
"""A daemon child that would outlive its parent's work."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.5, child=5.0, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,), daemon=True)
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
