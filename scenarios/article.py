# SPDX-License-Identifier: Apache-2.0
"""The sample program of the article that zombiebpf was born from, scaled in time.

    article.py [PARENT_S [CHILD_S [JOIN]]]

The parent starts a child and joins it. PARENT_S (default 0.5) and CHILD_S
(default 1.0) are how long each works, in seconds; the article's were 5 and 10.
JOIN is `join` (the default, as in the sample), `nojoin`, or the timeout of the
join in seconds: the article's other experiments.
"""

import multiprocessing
import os
import sys
import time

TICK_S = 0.1  # one line of output a tick; a second in the article


class MainProcess:
    def __init__(self, main_process_time, child_process_time, join):
        self.main_process_time = main_process_time
        self.child_process_time = child_process_time
        self.join = join

    def executor(self):
        print(f"main process begin, pid={os.getpid()}, ppid={os.getppid()}")
        p = ChildProcess(self.child_process_time)
        p.start()
        if self.join == "join":
            p.join()
        elif self.join != "nojoin":
            p.join(float(self.join))
        for i in range(round(self.main_process_time / TICK_S)):
            print(f"main process, pid={os.getpid()}, ppid={os.getppid()}, times={i}")
            time.sleep(TICK_S)
        print(f"main process end, pid={os.getpid()}, ppid={os.getppid()}")


class ChildProcess(multiprocessing.Process):
    def __init__(self, process_time):
        multiprocessing.Process.__init__(self)
        self.process_time = process_time

    def run(self):
        print(f"child process begin, pid={os.getpid()}, ppid={os.getppid()}")
        for i in range(round(self.process_time / TICK_S)):
            print(f"child process pid={os.getpid()}, ppid={os.getppid()}, times={i}")
            time.sleep(TICK_S)
        print(f"child process end, pid={os.getpid()}, ppid={os.getppid()}")


if __name__ == "__main__":
    # Into a pipe, too, each line comes when it is printed, and no child inherits
    # unwritten ones.
    sys.stdout.reconfigure(line_buffering=True)
    # What multiprocessing did on Linux when the article was written; since Python
    # 3.14 the default has a server fork the children.
    multiprocessing.set_start_method("fork")
    defaults = ["0.5", "1.0", "join"]
    main_process_time, child_process_time, join = sys.argv[1:] + defaults[len(sys.argv) - 1 :]
    action = MainProcess(float(main_process_time), float(child_process_time), join)
    action.executor()
