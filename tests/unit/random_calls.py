# SPDX-License-Identifier: Apache-2.0
"""Python calls that fork children and wait for them, for `random_records`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Call(NamedTuple):
    """A Python call that waits for a child, with the objects whose methods its frames are."""

    frames: tuple[str, ...]  # the library's, innermost first
    selves: str  # a letter a frame: p Popen, m Process, o Pool, . none
    style: str  # blocks in "wait" or "poll", "sleep"s between polls, or does "not" block
    reaping: tuple[str, ...] = ()  # frames at the reap, if they differ

    def addresses(self, objects: Mapping[str, int]) -> list[int]:
        """Return the address of the object of each frame."""
        return [objects[each] for each in self.selves]

    @property
    def at_reap(self) -> tuple[str, ...]:
        """Return the frames at the reap."""
        return self.reaping or self.frames

    def reaping_addresses(self, objects: Mapping[str, int]) -> list[int]:
        """Return the address of the object of each frame at the reap."""
        last = objects["m" if "m" in self.selves else "p"]
        return [objects["p"]] * (len(self.at_reap) - 1) + [last]


_MP_POLL = "multiprocessing.popen_fork:Popen.poll"
_MP_WAIT = "multiprocessing.popen_fork:Popen.wait"
_JOIN = "multiprocessing.process:BaseProcess.join"
SELECTING = ("selectors:_PollLikeSelector.select", "multiprocessing.connection:wait")
STARTING = (
    "multiprocessing.popen_fork:Popen._launch",
    "multiprocessing.popen_fork:Popen.__init__",
    "multiprocessing.context:ForkContext._Popen",
    "multiprocessing.process:BaseProcess.start",
)
POOL_STARTING = (
    *STARTING,
    "multiprocessing.pool:Pool._repopulate_pool_static",
    "multiprocessing.pool:Pool._repopulate_pool",
    "multiprocessing.pool:Pool.__init__",
)
SERVING = ("multiprocessing.forkserver:main", "/<string>:<module>:1")
_LAUNCHING = (
    "multiprocessing.popen_forkserver:Popen._launch",
    "multiprocessing.popen_forkserver:Popen.__init__",
    "multiprocessing.context:ForkServerContext._Popen",
    "multiprocessing.process:BaseProcess.start",
)
SERVER_STARTING = (
    "multiprocessing.util:spawnv_passfds",
    "multiprocessing.forkserver:ForkServer.ensure_running",
    *_LAUNCHING,
)
READING = ("multiprocessing.forkserver:read_signed", *_LAUNCHING)
EXECUTING = ("subprocess:Popen._execute_child", "subprocess:Popen.__init__")
_TRY_WAIT = ("subprocess:Popen._try_wait", "subprocess:Popen._wait", "subprocess:Popen.wait")
_POPEN_POLL = ("subprocess:Popen._internal_poll", "subprocess:Popen.poll")

OF_PROCESS = (
    Call((_MP_POLL, _MP_WAIT, _JOIN), "ppm", "wait"),
    Call((_MP_POLL, _MP_WAIT, _JOIN), "ppm", "wait"),
    Call((*SELECTING, _MP_WAIT, _JOIN), "..pm", "poll", (_MP_POLL, _MP_WAIT, _JOIN)),
    Call((*SELECTING, _MP_WAIT, _JOIN), "..pm", "poll", (_MP_POLL, _MP_WAIT, _JOIN)),
    Call((_MP_POLL, _MP_WAIT, _JOIN), "ppm", "not"),
    Call((_MP_POLL, "multiprocessing.process:BaseProcess.is_alive"), "pm", "not"),
    Call((_MP_POLL, "multiprocessing.process:BaseProcess.exitcode"), "pm", "not"),
    Call((_MP_POLL, "multiprocessing.process:_cleanup",
           "multiprocessing.process:BaseProcess.start"), "p.m", "not"),
    Call((_MP_POLL, _MP_WAIT, _JOIN, "multiprocessing.util:_exit_function"), "ppm", "wait"),
)  # fmt: skip
OF_POPEN = (
    Call(_TRY_WAIT, "ppp", "wait"),
    Call(_TRY_WAIT[1:], "pp", "sleep", _TRY_WAIT),
    Call((*_TRY_WAIT, "subprocess:Popen.communicate"), "pppp", "wait"),
    Call((*_TRY_WAIT, "subprocess:run"), "ppp", "wait"),
    Call((SELECTING[0], "subprocess:Popen.communicate", "subprocess:check_output"), ".p", "poll",
          (*_TRY_WAIT, "subprocess:Popen.communicate", "subprocess:check_output")),
    Call(_POPEN_POLL, "pp", "not"),
    Call(("subprocess:Popen._internal_poll", "subprocess:Popen.__del__"), "pp", "not"),
    Call(("asyncio.unix_events:ThreadedChildWatcher._do_waitpid", "threading:Thread.run"), "..",
          "wait"),
)  # fmt: skip
OF_FORK = (
    Call((), "", "wait"),
    Call((), "", "not"),
    Call(("os:_spawnvef",), ".", "wait"),
    Call(("/srv/handlers.py:on_child:3", "selectors:EpollSelector.select"), "..", "not"),
    Call(("/srv/handlers.py:on_child:4", "selectors:EpollSelector.select"), "..", "wait"),
)
OF_POOL = (
    Call((_MP_POLL, _MP_WAIT, _JOIN, "multiprocessing.pool:Pool.join"), "ppmo", "wait"),
    Call((_MP_POLL, "multiprocessing.pool:Pool._join_exited_workers"), "p.", "not"),
)
OF_SERVER = (
    Call((*SELECTING, "multiprocessing.popen_forkserver:Popen.poll", _MP_WAIT, _JOIN), "..ppm",
          "poll"),
)  # fmt: skip
