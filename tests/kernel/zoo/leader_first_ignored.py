# SPDX-License-Identifier: Apache-2.0
"""SIGCHLD ignored, and the main thread exits before another: both are released by one call.

The kernel's release of the last thread goes on with the leader, as nobody wants to wait for it.
"""

import signal
import threading

from harness import raw, truth

signal.signal(signal.SIGCHLD, signal.SIG_IGN)
gate, ready = truth.Gate(), truth.Gate()


def run() -> None:
    ready.open()
    gate.wait()
    truth.say("process", death=[truth.now(), None])
    raw.exit_thread(5)


def body() -> None:
    threading.Thread(target=run, daemon=True).start()
    raw.exit_thread(5)


pid = truth.spawn("process", body)
ready.wait()
truth.until_zombie(pid)
gate.open()
truth.until(lambda: not truth.proc_state(pid), "it is gone")
truth.fence()
# it is gone from /proc before the thread that released it is done
truth.say("process", death=[None, truth.now()], reap=[None, None], state="reaped")
truth.say("process", status=5 << 8, reaped_by="kernel", zombie=False, reap_may_be_late=True)
truth.tell()
