# SPDX-License-Identifier: Apache-2.0
"""subprocess: each call that reaps."""

import contextlib
import os
import subprocess
from typing import Any


def start(*command: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(command or ["true"])  # forks; reaps: subprocess._cleanup


def dead() -> subprocess.Popen[bytes]:
    """Return a process that has died and is not reaped."""
    process = start()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def main() -> None:
    start().wait()  # reaps: Popen.wait
    start().wait(timeout=60)  # reaps: Popen.wait
    dead().poll()  # reaps: Popen.poll
    dead()  # reaps: Popen.__del__
    process = start("sleep", "60")
    del process  # it goes to subprocess._active
    active: Any = vars(subprocess)["_active"]
    os.kill(active[0].pid, 9)
    os.waitid(os.P_PID, active[0].pid, os.WEXITED | os.WNOWAIT)
    start().wait()  # reaps: Popen.wait
    with start():  # reaps: Popen.wait
        pass
    start().communicate()  # reaps: Popen.communicate
    subprocess.run(["true"], check=True)  # forks; reaps: subprocess.run
    with contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(["sleep", "60"], timeout=0.1)  # forks; reaps: subprocess.run
    subprocess.call(["true"])  # forks; reaps: subprocess.call
    subprocess.check_call(["true"])  # forks; reaps: subprocess.call
    subprocess.check_output(["true"])  # forks; reaps: subprocess.check_output
    subprocess.getoutput("true")  # forks; reaps: subprocess.check_output
    with contextlib.suppress(FileNotFoundError):
        subprocess.Popen(["/nonexistent/program"])  # forks; reaps: Popen.__init__
    process = dead()
    process.terminate()  # reaps: Popen.send_signal


if __name__ == "__main__":
    vars(subprocess)["_USE_POSIX_SPAWN"] = False
    main()
