# SPDX-License-Identifier: Apache-2.0
"""All children are started, then all are joined."""

import multiprocessing

import story

if __name__ == "__main__":
    knobs = story.knobs(child=0.9, children=3, start_method="fork")
    children = [
        multiprocessing.Process(target=story.live, args=(knobs.child,))
        for _ in range(knobs.children)
    ]
    for child in children:
        child.start()
        story.started(child, "child")
    for child in children:
        story.join(child)
