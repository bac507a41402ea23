# SPDX-License-Identifier: Apache-2.0
"""Lines within statements: expressions over several lines, blocks and their ends."""

import contextlib

from objects import Base
from witness import child, name


# fmt: off
def lines():
    name("expressions over several lines")
    sum(
        [
            1,
            child(),
            2,
            child() + child(
            ),
        ]
    )
    dict(
        one=child(),
        two=[
            child()
            for _ in range(
                1
            )
        ],
    )
    (
        Base()  # type: ignore[attr-defined]
        .method
        .__func__(
            Base(),
        )
    )
    value = child(
        *[
        ]
    ) if (
        child()
    ) else (
        child()
    )
    assert (
        value
        and
        child()
    ), (
        "never"
    )
    child(); child(); child()  # noqa: E702
    for _ in [child(),
              child()]: child()  # noqa: E701
    while (
        not child()
    ):
        pass
# fmt: on


def blocks():
    name("try, except, finally and with")
    try:
        child()
        raise KeyError(child())
    except KeyError:
        child()
        try:
            raise ValueError from None
        except ValueError if child() else TypeError:
            child()
        finally:
            child()
    else:
        child()
    finally:
        child()
    with Base() as base, base:
        child()

    def returning():
        try:
            return child()
        finally:
            child()

    returning()

    @contextlib.contextmanager
    def manager():
        child()
        try:
            yield child()
        finally:
            child()

    with manager():
        child()
    with contextlib.suppress(KeyError), contextlib.ExitStack() as stack:
        stack.callback(child)
        stack.enter_context(manager())
        raise KeyError


SHAPES = (lines, blocks)
