# SPDX-License-Identifier: Apache-2.0
"""celery with two prefork workers, each of which prints its PID; SIGTERM ends it."""

import os

import celery
from celery.signals import worker_process_init

OUTPUT = os.dup(1)
os.dup2(2, 1)  # its banner goes elsewhere

app = celery.Celery("tasks", broker="memory://", backend="cache+memory://")


@worker_process_init.connect
def started(**_: object) -> None:
    os.write(OUTPUT, b"%d\n" % os.getpid())


if __name__ == "__main__":
    os.write(OUTPUT, b"ready\n")
    # a thread of billiard's, in which no line is the user's, reaps and forks
    app.worker_main(["worker", "--pool=prefork", "--concurrency=2", "--without-mingle"])
