# SPDX-License-Identifier: Apache-2.0
"""Make a library reap; print the stacks of all reaps as JSON. Any Python from 3.7 on runs this.

    python3 reaping_calls.py CALL

What BPF reads from outside is read here from inside, by a os.waitpid() that looks at its caller.
"""

import json
import os
import sys
from types import FrameType
from typing import Any, List, Optional, Tuple  # noqa: UP035 - Python 3.7

real_waitpid = os.waitpid
reaps: List[List[Any]] = []  # noqa: UP006


def waitpid(pid: int, options: int) -> Tuple[int, int]:  # noqa: UP006
    found = real_waitpid(pid, options)
    if found[0]:
        frame: Optional[FrameType] = sys._getframe(1)
        stack: List[Any] = []  # noqa: UP006
        while frame is not None:
            code = frame.f_code
            name = getattr(code, "co_qualname", code.co_name)
            stack.append([name, code.co_filename, frame.f_lineno])
            frame = frame.f_back
        reaps.append(stack)
    return found


os.waitpid = waitpid  # before anything takes a reference to it

import asyncio  # noqa: E402
import concurrent.futures  # noqa: E402
import contextlib  # noqa: E402
import multiprocessing as mp  # noqa: E402
import multiprocessing.util  # noqa: E402
import signal  # noqa: E402
import subprocess  # noqa: E402
import time  # noqa: E402
import warnings  # noqa: E402

warnings.simplefilter("ignore")
NOTHING = [sys.executable, "-S", "-c", "pass"]


def started() -> mp.Process:
    process = mp.Process(target=int)
    process.start()
    return process


def ended() -> mp.Process:
    """Return a child that is a zombie, for which nothing has waited."""
    process = started()
    assert process.pid is not None
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    return process


def ended_popen() -> "subprocess.Popen[bytes]":
    popen = subprocess.Popen(NOTHING)
    os.waitid(os.P_PID, popen.pid, os.WEXITED | os.WNOWAIT)
    return popen


def join() -> None:
    started().join()


def join_0() -> None:
    ended().join(0)


def start() -> mp.Process:
    first = ended()
    del reaps[:]
    started()
    return first


def active_children() -> None:
    ended()
    mp.active_children()


def is_alive() -> None:
    ended().is_alive()


def exitcode() -> None:
    ended().exitcode  # noqa: B018


def close() -> None:
    ended().close()


def at_exit() -> None:
    import atexit

    atexit.unregister(report)
    exit_function = vars(mp.util)["_exit_function"]
    atexit.unregister(exit_function)
    atexit.register(report)
    atexit.register(exit_function)
    started()


def pool_worker() -> None:
    with mp.Pool(1, maxtasksperchild=1) as pool:
        pool.map(abs, [1, 2], chunksize=1)
        deadline = time.monotonic() + 20
        while not reaps and time.monotonic() < deadline:
            time.sleep(0.01)
        del reaps[1:]
        first = reaps[:]
    reaps[:] = first


def pool_terminate() -> None:
    pool = mp.Pool(1)
    pool.terminate()
    pool.join()


def executor() -> None:
    with concurrent.futures.ProcessPoolExecutor(1) as each:
        each.submit(int).result()


def popen_wait() -> None:
    subprocess.Popen(NOTHING).wait()


def popen_wait_timeout() -> None:
    subprocess.Popen(NOTHING).wait(20)


def popen_poll() -> None:
    ended_popen().poll()


def popen_communicate() -> None:
    subprocess.Popen(NOTHING, stdout=subprocess.PIPE, stderr=subprocess.PIPE).communicate()


def popen_del() -> None:
    popen = ended_popen()
    del popen


def popen_cleanup() -> None:
    popen = subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE)
    pid, pipe, popen.stdin = popen.pid, popen.stdin, None
    del popen
    assert pipe is not None
    pipe.close()
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    other = subprocess.Popen(NOTHING)
    del reaps[1:]
    first = reaps[:]
    other.wait()
    reaps[:] = first


def failed_exec() -> None:
    with contextlib.suppress(OSError):
        subprocess.Popen(["/nonexistent"], preexec_fn=int)


def run() -> None:
    subprocess.run(NOTHING)


def call() -> None:
    subprocess.check_call(NOTHING)


def check_output() -> None:
    subprocess.getoutput("exit 0")


def os_popen() -> None:
    os.popen("exit 0").close()


def os_waitpid() -> None:
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)


def os_spawn() -> None:
    os.spawnv(os.P_WAIT, sys.executable, NOTHING)


def handler() -> None:
    def on_child(number: int, frame: object) -> None:
        os.waitpid(-1, os.WNOHANG)

    import threading

    signal.signal(signal.SIGCHLD, on_child)
    subprocess.Popen(NOTHING)
    deadline = time.monotonic() + 20
    while not reaps and time.monotonic() < deadline:
        threading.Event().wait(0.1)


def watched(watcher: str) -> None:
    async def main() -> None:
        process = await asyncio.create_subprocess_exec(*NOTHING)
        await process.wait()

    if watcher:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        each = getattr(asyncio, watcher)()
        each.attach_loop(loop)
        asyncio.set_child_watcher(each)
        loop.run_until_complete(main())
    else:
        asyncio.get_event_loop_policy().new_event_loop().run_until_complete(main())


def report() -> None:
    sys.stdout.write(json.dumps(reaps) + "\n")
    sys.stdout.flush()


def main() -> None:
    name, _, argument = sys.argv[1].partition("=")
    mp.set_start_method("fork")
    if name == "watched":
        watched(argument)
    else:
        globals()[name]()
    if name == "at_exit":
        return
    report()
    os._exit(0)


if __name__ == "__main__":
    main()
