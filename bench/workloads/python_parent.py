# SPDX-License-Identifier: Apache-2.0
"""A Python process with a child: from its fork on, context switches are looked at."""

import os

from timed import wait_for_go

reading, writing = os.pipe()
child = os.fork()
if child == 0:
    os.close(writing)
    os.read(reading, 1)  # until the parent's end
    os._exit(0)
wait_for_go()
os.close(writing)
os.waitpid(child, 0)
print("done", flush=True)
