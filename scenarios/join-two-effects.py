# SPDX-License-Identifier: Apache-2.0
"""What join() does: it waits for the child, and removes it from multiprocessing's set."""

import multiprocessing

import story


def listed(child):
    # not active_children(), which would reap
    return child in multiprocessing.process._children


if __name__ == "__main__":
    knobs = story.knobs(child=0.7, pause=0.6, timeout=0.1, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.join(child, knobs.timeout)
    story.fact("listed_after_timeout", listed(child))
    story.live(knobs.child + knobs.pause)  # the child ends and is a zombie
    story.fact("listed_as_zombie", listed(child))
    story.join(child)
    story.fact("listed_after_join", listed(child))
