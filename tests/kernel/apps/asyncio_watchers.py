# SPDX-License-Identifier: Apache-2.0
"""asyncio's ways to wait for a process."""

import asyncio
import os
import subprocess
import sys
import warnings


async def use() -> None:
    process = await asyncio.create_subprocess_exec("true")  # forks
    await process.wait()


def run(name: str) -> None:
    """Run with one of the child watchers that Python had until 3.13."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    watcher = getattr(asyncio, name)()
    if hasattr(watcher, "attach_loop"):
        watcher.attach_loop(loop)
    asyncio.set_child_watcher(watcher)
    if name == "FastChildWatcher":
        loop.run_until_complete(slow())  # reaps: asyncio child watcher (fast)
    elif name == "SafeChildWatcher":
        loop.run_until_complete(slow())  # reaps: asyncio child watcher (safe)
    elif name == "PidfdChildWatcher":
        loop.run_until_complete(use())  # reaps: asyncio child watcher (pidfd)
    else:
        loop.run_until_complete(use())
        # reaps somewhere: asyncio child watcher (thread)
    watcher.close()
    loop.close()


async def slow() -> None:
    process = await asyncio.create_subprocess_exec("sleep", "0.1")  # forks
    await process.wait()


def main() -> None:
    if sys.version_info < (3, 12):
        asyncio.run(use())
    names = ["ThreadedChildWatcher", "FastChildWatcher", "SafeChildWatcher"]
    if hasattr(os, "pidfd_open"):
        names.append("PidfdChildWatcher")
    for name in names if sys.version_info < (3, 14) else ():
        subprocess.run([sys.executable, __file__, name], check=True)  # forks; reaps: subprocess.run


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    if sys.argv[1:]:
        run(sys.argv[1])
    else:
        main()
