# SPDX-License-Identifier: Apache-2.0
"""A death that left a core: the status word has the core bit."""

import os
import resource
import signal

from harness import truth

try:  # sudo sets the hard limit to 0 too (sudoers(5), rlimit_core): root may raise it
    resource.setrlimit(resource.RLIMIT_CORE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
except ValueError:  # without CAP_SYS_RESOURCE, in a container
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))


def fault() -> None:
    with open("/proc/self/coredump_filter", "w") as chosen:
        chosen.write("0")  # headers only: a small core in the current directory
    truth.say("faulted", death=[truth.now(), None])
    os.kill(os.getpid(), signal.SIGSEGV)


status = truth.reap("faulted", truth.spawn("faulted", fault))
assert os.WTERMSIG(status) == signal.SIGSEGV
assert os.WCOREDUMP(status), "no core was dumped: see ulimit -Hc, core_pattern(5)"
truth.tell()
