# SPDX-License-Identifier: Apache-2.0
"""A daemon child whose parent is killed."""

import multiprocessing
import os
import signal

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.3, child=0.9, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,), daemon=True)
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    os.kill(os.getpid(), signal.SIGKILL)
