# SPDX-License-Identifier: Apache-2.0
"""A SIGCHLD handler that reaps, while the main thread waits for something else."""

import os
import signal
import threading

gone = threading.Event()


def on_child(number: int, frame: object) -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)  # reaps: signal handler
        except ChildProcessError:
            return
        if pid:
            gone.set()


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, on_child)
    release, held = os.pipe()
    if os.fork() == 0:  # forks
        os.close(held)
        os.read(release, 1)
        os._exit(0)
    threading.Timer(0.1, os.close, [held]).start()
    gone.wait()
