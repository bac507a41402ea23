# SPDX-License-Identifier: Apache-2.0
"""celery: a process of the prefork pool ends after its task and is replaced, then all ends."""

import os
import signal
import threading

import celery
from celery.signals import worker_process_init
from until import started_worker, starts

app = celery.Celery("tasks", broker="memory://", backend="cache+memory://")


@worker_process_init.connect
def started(**_: object) -> None:
    starts(os.getpid())


@app.task
def nothing() -> None:
    pass


def drive() -> None:
    started_worker(0)
    nothing.delay()
    started_worker(1)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=drive, daemon=True).start()
    app.worker_main(  # forks; reaps: celery; reaps, perhaps: subprocess.check_output
        ["worker", "--concurrency=1", "--max-tasks-per-child=1", "--without-mingle"]
    )
    # reaps somewhere: billiard
