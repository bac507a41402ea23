# SPDX-License-Identifier: Apache-2.0
"""Children that are joined at once, and a process that looks for zombies every millisecond."""

import multiprocessing
import time

import story


def look(watched, tell):
    """Read the state of the current child as ps does, but every millisecond."""
    looks, zombies = 0, set()
    while watched.value >= 0:
        pid = watched.value
        try:
            with open("/proc/{}/stat".format(pid)) as stat:
                if ") Z " in stat.read():
                    zombies.add(pid)
        except OSError:
            pass  # it is gone
        looks += 1
        time.sleep(0.001)
    tell.send((looks, len(zombies)))


if __name__ == "__main__":
    knobs = story.knobs(child=0.005, children=60, start_method="fork")
    watched = multiprocessing.Value("i", 0, lock=False)
    hear, tell = multiprocessing.Pipe(duplex=False)
    poller = multiprocessing.Process(target=look, args=(watched, tell))
    poller.start()
    story.started(poller, "poller")

    for _ in range(knobs.children):
        child = multiprocessing.Process(target=time.sleep, args=(knobs.child,))
        child.start()
        watched.value = child.pid
        story.started(child, "child")
        child.join()

    watched.value = -1
    looks, zombies = hear.recv()
    story.fact("looks", looks)
    story.fact("zombies_polled", zombies)
