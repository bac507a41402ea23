# SPDX-License-Identifier: Apache-2.0
"""A loop that starts a child and joins it before it starts the next."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(child=0.25, children=3, start_method="fork")
    for _ in range(knobs.children):
        child = multiprocessing.Process(target=story.live, args=(knobs.child,))
        child.start()
        story.started(child, "child")
        story.join(child)
