# SPDX-License-Identifier: Apache-2.0
"""Argument vectors that text tools break on: empty strings, newlines, no UTF-8, 4 KiB, 100 KiB."""

import os
from typing import Callable

from harness import truth

VECTORS = {
    "empty strings": ["", "", "middle", ""],
    "newlines": ["one\ntwo", "\r\n", "tab\there", '"quote"\\'],
    "not UTF-8": [os.fsdecode(b"\xff\xfe caf\xe9"), os.fsdecode("naïve 僵尸".encode())],
    "4 KiB": ["x" * 4096, "last"],
    "5000 arguments": [str(number) for number in range(5000)],
    "100 KiB": ["y" * 100_000, "last"],
}


def body_of(role: str, vector: "list[str]") -> Callable[[], None]:
    def body() -> None:
        argv = ["sh", "-c", "exit 3", *vector]
        low = truth.now()
        truth.say(role, argv=argv, comm="sh", exec=[{"filename": "/bin/sh", "ns": [low, None]}])
        truth.say(role, death=[low, None])
        os.execv("/bin/sh", argv)

    return body


for role, vector in VECTORS.items():
    truth.reap(role, truth.spawn(role, body_of(role, vector)))
truth.tell()
