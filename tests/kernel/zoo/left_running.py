# SPDX-License-Identifier: Apache-2.0
"""A daemon that outlives the command, until the one who started it all kills it."""

import os

from harness import truth

ready = truth.Gate()


def daemon() -> int:
    os.setsid()
    for descriptor in (0, 1, 2):  # a pipe to the observer must not be kept open
        os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
    ready.open()
    return truth.forever()


truth.spawn("daemon", daemon)
ready.wait()
truth.say("daemon", state="running")
truth.tell()
