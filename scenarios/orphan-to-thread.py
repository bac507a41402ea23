# SPDX-License-Identifier: Apache-2.0
"""A child whose parent is a thread that ends, and then a process that is killed."""

import multiprocessing
import os
import signal
import threading

import story


def child_life(seconds, parent):
    story.live(seconds / 4)
    story.fact("ppid_after_thread_is_parent", os.getppid() == parent)
    story.live(seconds * 3 / 4)
    story.fact("ppid_after_kill_is_parent", os.getppid() == parent)


if __name__ == "__main__":
    knobs = story.knobs(parent=0.8, child=1.2, start_method="fork")
    child = multiprocessing.Process(target=child_life, args=(knobs.child, os.getpid()))
    thread = threading.Thread(target=child.start)
    thread.start()
    thread.join()  # the thread that forked the child is gone; its process lives on
    story.started(child, "child")
    story.live(knobs.parent)
    os.kill(os.getpid(), signal.SIGKILL)
