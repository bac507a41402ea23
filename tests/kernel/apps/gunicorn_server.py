# SPDX-License-Identifier: Apache-2.0
"""gunicorn: a worker is killed and replaced, then all ends."""

import os
import signal
import sys
import threading
from typing import Callable

from gunicorn.app.base import BaseApplication
from until import started_worker, starts


class Application(BaseApplication):
    def load_config(self) -> None:
        self.cfg.set("bind", "unix:" + os.path.join(os.environ["APP_DIRECTORY"], "socket"))
        self.cfg.set("workers", 2)
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("post_worker_init", lambda worker: starts(worker.pid))

    def load(self) -> Callable[..., list[bytes]]:
        return lambda environ, start_response: []


def drive() -> None:
    first = started_worker(0)
    started_worker(1)
    os.kill(first, signal.SIGKILL)
    started_worker(2)
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    sys.argv = ["gunicorn"]
    threading.Thread(target=drive, daemon=True).start()
    Application().run()  # forks; reaps: gunicorn arbiter
