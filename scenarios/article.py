# SPDX-License-Identifier: Apache-2.0
"""The sample program of the article, scaled in time.

A second of the article is 0.1 s here: its parent works for 5 s, its child for 10 s.
"""

import multiprocessing
import os
import sys

import story

TICK_S = 0.1  # one line of output a tick


class MainProcess:
    def __init__(self, main_process_time, child_process_time):
        self.main_process_time = main_process_time
        self.child_process_time = child_process_time

    def executor(self):
        print(f"main process begin, pid={os.getpid()}, ppid={os.getppid()}")
        p = ChildProcess(self.child_process_time)
        p.start()
        story.started(p, "child")
        story.join(p)  # p.join()
        for i in range(round(self.main_process_time / TICK_S)):
            print(f"main process, pid={os.getpid()}, ppid={os.getppid()}, times={i}")
            story.live(TICK_S)
        print(f"main process end, pid={os.getpid()}, ppid={os.getppid()}")


class ChildProcess(multiprocessing.Process):
    def __init__(self, process_time):
        multiprocessing.Process.__init__(self)
        self.process_time = process_time

    def run(self):
        print(f"child process begin, pid={os.getpid()}, ppid={os.getppid()}")
        for i in range(round(self.process_time / TICK_S)):
            print(f"child process pid={os.getpid()}, ppid={os.getppid()}, times={i}")
            story.live(TICK_S)
        print(f"child process end, pid={os.getpid()}, ppid={os.getppid()}")


if __name__ == "__main__":
    # Write each line when it is printed, also into a pipe, so that no child inherits
    # buffered output.
    sys.stdout.reconfigure(line_buffering=True)
    knobs = story.knobs(parent=0.5, child=1.0, start_method="fork")
    action = MainProcess(knobs.parent, knobs.child)
    action.executor()
