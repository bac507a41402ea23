# SPDX-License-Identifier: Apache-2.0
"""Frames that lie, memory that is not there, processes killed at any moment.

A stack is right or says that something is missing: what it has then is right.
"""

import mmap
import os
import random
import signal
import sys
import tempfile
import time
from typing import Any, Dict, List

import witness
from witness import (
    child,
    foretell,
    forked,
    os_fork,
    os_waitpid,
    reaped,
    snap,
    write,
)

VICTIMS = 30
SEED = 20240229
PAGE = mmap.PAGESIZE
FAR = 3  # frames from strike() out to the one that is damaged


def offsets():
    """Where, in bytes: a frame's code and previous frame, a code object's texts and table."""
    code = {"file": 112, "name": 120, "qualified name": 128, "line table": 136}
    if sys.version_info < (3, 11):
        shift = 8 if sys.version_info >= (3, 8) else 0
        return 32, 24, {"file": 96 + shift, "name": 104 + shift, "line table": 112 + shift}
    if sys.version_info < (3, 12):
        return 32, 48, code
    return 0, 8, code


class Memory:
    """Addresses that are no frame, and no code, and what keeps them so."""

    def __init__(self, ctypes):
        self._ctypes = ctypes
        self._library = library = ctypes.CDLL(None, use_errno=True)
        library.mmap.restype = ctypes.c_void_p
        library.mmap.argtypes = (
            [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
        )
        anonymous = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
        both = library.mmap(None, 2 * PAGE, mmap.PROT_READ | mmap.PROT_WRITE, anonymous, -1, 0)
        library.munmap(ctypes.c_void_p(both + PAGE), ctypes.c_size_t(PAGE))
        ctypes.memset(both, 0x41, PAGE)
        self._kept: List[Any] = [{}, b"A" * 4096]
        self.addresses = {
            "not canonical": 0x4141414141414141,
            "small": 0x10,
            "the kernel's": 0xFFFF888000000000,
            "never touched": library.mmap(None, PAGE, mmap.PROT_READ, anonymous, -1, 0),
            "protected": library.mmap(None, PAGE, 0, anonymous, -1, 0),
            "unmapped": both + PAGE,
            "at the end of a page": both + PAGE - 16,
            "of letters": both,
            "a dict": id(self._kept[0]),
            "bytes": id(self._kept[1]),
            "a type": id(type),
        }

    def absent(self, address, size):
        """The address of a copy of an object, in a page that is not in memory."""
        file = tempfile.TemporaryFile()
        content = self._ctypes.string_at(address, size)
        file.write(content + bytes(-len(content) % PAGE))
        file.flush()
        self._kept.append(file)
        length = os.fstat(file.fileno()).st_size
        found = self._library.mmap(
            None, length, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE, file.fileno(), 0
        )
        self._library.madvise(self._ctypes.c_void_p(found), self._ctypes.c_size_t(length), 4)
        return found


def strike(held, word, value):
    """Fork and wait while a word of memory has another value; nothing of Python runs then."""
    # fmt: off
    saved = word.value
    stack = snap(); word.value = value; pid = held.fork(); word.value = saved  # noqa: E702
    if pid == 0:
        os._exit(0)
    forked(stack, pid)
    stack = snap(); word.value = value; held.waitpid(pid, None, 0); word.value = saved  # noqa: E702
    # fmt: on
    reaped(stack, pid)


def memory():
    witness.name("damage: no ctypes")
    try:
        import ctypes
    except ImportError:
        write("absent", reason="this Python has no ctypes")
        return
    held, lies = ctypes.PyDLL(None), Memory(ctypes)
    at_code, at_previous, in_code = offsets()

    def frame_of(frame):
        """The address of what the interpreter runs."""
        if sys.version_info < (3, 11):
            return id(frame)
        return ctypes.c_uint64.from_address(id(frame) + 24).value

    def outward(levels, *arguments):
        return outward(levels - 1, *arguments) if levels else damage(*arguments)

    def damage(offset, value):
        frame = sys._getframe(FAR - 1)
        address = frame_of(frame) + offset
        strike(held, ctypes.c_uint64.from_address(address), value(frame))

    for what, value in lies.addresses.items():
        witness.name("the previous frame: " + what, "broken", FAR + 1)
        outward(4, at_previous, lambda frame, value=value: value)
        witness.name("a frame's code: " + what, "broken", FAR)
        outward(4, at_code, lambda frame, value=value: value)
    witness.name("the previous frame: itself", "broken", FAR + 1)
    outward(4, at_previous, frame_of)
    witness.name("a frame's code: none", "broken", FAR)
    outward(4, at_code, lambda frame: 0)
    witness.name("the previous frame: not in memory", "broken", FAR + 1)
    outward(4, at_previous, lambda frame: lies.absent(frame_of(frame.f_back), 256))
    witness.name("a frame's code: not in memory", "broken", FAR)
    outward(4, at_code, lambda frame: lies.absent(id(frame.f_code), sys.getsizeof(frame.f_code)))

    def damage_code(code, offset, value):
        word = ctypes.c_uint64.from_address(id(code) + offset)
        strike(held, word, word.value if value is None else value(word.value))

    for field, offset in in_code.items():
        for what, value in lies.addresses.items():
            if (field, what) == ("line table", "bytes"):
                continue  # that is what a line table is
            witness.name("a function's {}: {}".format(field, what), "broken", 2)
            fresh(damage_code, offset, lambda true, value=value: value)
        witness.name("a function's {}: not in memory".format(field), "broken", 2)
        fresh(damage_code, offset, lambda true: lies.absent(true, 256))
        witness.name("a function's {}: as it is".format(field))
        fresh(damage_code, offset, None)


_number = 0


def fresh(function, *arguments):
    """Call it from a function that nobody has seen before, with that one's code."""
    global _number
    _number += 1
    source = "def fresh_{0}(function, *arguments):\n    return function(*arguments)\n".format(
        _number
    )
    names: Dict[str, Any] = {}
    exec(compile(source, "<fresh {}>".format(_number), "exec"), names)
    made = names["fresh_{}".format(_number)]
    made(function, made.__code__, *arguments)


def victim():
    """Fork and wait for ever, at ever other depths; say each time what will be."""

    def down(levels):
        if levels:
            down(levels - 1)
        else:
            _, pid = foretell("fork"), os_fork()
            if pid == 0:
                os._exit(0)
            foretell("reap"), os_waitpid(pid, 0)

    number = 0
    while True:
        number = (number * 7 + 3) % 41
        down(number)


def killed():
    """Some children are killed, each at a moment of its own."""
    witness.name("killed at any moment", "broken", 0)
    chance = random.Random(SEED)
    for _ in range(VICTIMS):
        release, held = os.pipe()
        pid = os_fork()
        if pid == 0:
            os.write(held, b".")
            victim()
        os.read(release, 1)
        os.close(release)
        os.close(held)
        time.sleep(chance.uniform(0, 0.03))  # the moment, not a wait for anything
        os.kill(pid, signal.SIGKILL)
        os_waitpid(pid, 0)
    witness.name("after those that were killed")
    child()


SHAPES = (memory, killed)
