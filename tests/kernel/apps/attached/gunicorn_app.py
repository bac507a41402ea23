# SPDX-License-Identifier: Apache-2.0
"""gunicorn with two workers, each of which prints its PID; SIGTERM ends it."""

import os
import sys
from typing import Callable

from gunicorn.app.base import BaseApplication

OUTPUT = os.dup(1)
os.dup2(2, 1)


class Application(BaseApplication):
    def load_config(self) -> None:
        self.cfg.set("bind", "unix:" + os.path.join(sys.argv[1], "socket"))
        self.cfg.set("workers", 2)
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("post_worker_init", lambda worker: os.write(OUTPUT, b"%d\n" % worker.pid))

    def load(self) -> Callable[..., list[bytes]]:
        return lambda environ, start_response: []


if __name__ == "__main__":
    os.write(OUTPUT, b"ready\n")
    Application().run()  # forks, reaps
