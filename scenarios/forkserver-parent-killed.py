# SPDX-License-Identifier: Apache-2.0
"""Under forkserver: a child whose main process is killed, and with it every possible waiter."""

import multiprocessing
import os
import signal

import story

if __name__ == "__main__":
    knobs = story.knobs(parent=0.4, child=1.0, start_method="forkserver")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.live(knobs.parent)
    os.kill(os.getpid(), signal.SIGKILL)
