# SPDX-License-Identifier: Apache-2.0
"""A child that listens on a port and ends; its parent, which has not waited, binds that port."""

import multiprocessing
import socket

import story


def child_life(seconds, tell):
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    listening.listen()
    tell.send(listening.getsockname()[1])
    story.live(seconds)  # then exits with the port open


def can_bind(port):
    with socket.socket() as another:
        try:
            another.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def state(pid):
    with open("/proc/{}/stat".format(pid)) as stat:
        return stat.read().rpartition(")")[2].split()[0]


if __name__ == "__main__":
    knobs = story.knobs(parent=0.9, child=0.3, start_method="fork")
    hear, tell = multiprocessing.Pipe(duplex=False)
    child = multiprocessing.Process(target=child_life, args=(knobs.child, tell))
    child.start()
    story.started(child, "child")
    port = hear.recv()
    story.fact("bound_while_child_lives", can_bind(port))
    story.live(knobs.parent)
    story.fact("state_when_bound", state(child.pid))
    story.fact("bound_while_zombie", can_bind(port))
