# SPDX-License-Identifier: Apache-2.0
"""Frames that are suspended and resumed: generators, coroutines, tasks."""

import asyncio
import os

from witness import child, forked, name, os_fork, os_waitpid, reaped, snap


def generators():
    name("generators")

    def counting():
        child()
        received = yield child()
        while received:
            received = yield child()
        try:
            yield 0
        finally:
            child()

    generator = counting()
    next(generator)
    generator.send(1)
    generator.send(2)
    generator.send(None)
    generator.close()

    def delegating():
        yield from inner()
        yield child()

    def inner():
        yield child()
        yield from innermost(3)

    def innermost(levels):
        if levels:
            yield from innermost(levels - 1)
        else:
            yield child()

    for _ in delegating():
        child()

    name("generators: the fork in the generator itself")

    def forking():
        stack, pid = snap(), os_fork()
        if pid == 0:
            os._exit(0)
        forked(stack, pid)
        yield pid
        stack, (pid, _) = snap(), os_waitpid(pid, 0)
        reaped(stack, pid)
        yield pid

    list(forking())

    name("generators: thrown into, and resumed elsewhere")

    def catching():
        while True:
            try:
                yield child()
            except KeyError:
                child()

    generator = catching()
    next(generator)
    generator.throw(KeyError())

    def resume():
        return next(generator)

    resume()
    sum(child() and each for each in (one for one in range(2)))


def coroutines():
    name("coroutines driven by hand")

    class Awaitable:
        def __await__(self):
            child()
            yield child()
            return 1

    async def leaf():
        child()
        await Awaitable()
        child()

    async def branch(levels):
        if levels:
            return await branch(levels - 1)
        return await leaf()

    coroutine = branch(6)
    coroutine.send(None)
    try:
        coroutine.send(None)
    except StopIteration:
        pass

    name("coroutines: the fork in the coroutine itself")

    async def forking():
        stack, pid = snap(), os_fork()
        if pid == 0:
            os._exit(0)
        forked(stack, pid)
        await asyncio.sleep(0)
        stack, (pid, _) = snap(), os_waitpid(pid, 0)
        reaped(stack, pid)

    run(forking())


class Manager:
    async def __aenter__(self):
        await asyncio.sleep(0)
        child()

    async def __aexit__(self, *_):
        child()


async def asynchronous_generator(number):
    for each in range(number):
        child()
        await asyncio.sleep(0)
        yield each


def tasks():
    name("tasks of an event loop")

    async def worker(number):
        await asyncio.sleep(0)
        child()
        async with Manager():
            child()
        async for _ in asynchronous_generator(1):
            child()
        return [each async for each in asynchronous_generator(1)]

    async def main():
        asyncio.get_running_loop().call_soon(child)
        task = asyncio.ensure_future(worker(0))
        task.add_done_callback(lambda _: child())
        await asyncio.gather(task, *[worker(each) for each in range(2)])
        await asyncio.wait_for(worker(3), timeout=60)
        await asyncio.get_running_loop().run_in_executor(None, child)

    run(main())


def subprocesses():
    name("subprocesses of an event loop")

    async def main():
        process = await asyncio.create_subprocess_exec("true")
        await process.wait()

    run(main())


def run(coroutine):
    """asyncio.run() without the warning that some versions give for a loop of one's own."""
    asyncio.run(coroutine)


SHAPES = (generators, coroutines, tasks, subprocesses)
