# SPDX-License-Identifier: Apache-2.0
"""uvicorn --workers: a worker is killed and replaced, then all ends."""

import os
import signal
import threading
from typing import Any

import uvicorn
from until import started_worker, starts


async def application(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        starts(os.getpid())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})


def drive() -> None:
    first = started_worker(0)
    started_worker(1)
    os.kill(first, signal.SIGKILL)
    started_worker(2)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=drive, daemon=True).start()
    uvicorn.run(  # forks; reaps: uvicorn supervisor
        "uvicorn_server:application",
        workers=2,
        uds=os.path.join(os.environ["APP_DIRECTORY"], "socket"),
        lifespan="on",
    )
