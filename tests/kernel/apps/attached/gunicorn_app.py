# SPDX-License-Identifier: Apache-2.0
"""gunicorn with two workers, each of which tells its PID; it ends with SIGTERM."""

import os
import sys

from gunicorn.app.base import BaseApplication

TOLD = os.dup(1)
os.dup2(2, 1)


class Application(BaseApplication):
    def load_config(self):
        self.cfg.set("bind", "unix:" + os.path.join(sys.argv[1], "socket"))
        self.cfg.set("workers", 2)
        self.cfg.set("control_socket_disable", True)
        self.cfg.set("post_worker_init", lambda worker: os.write(TOLD, b"%d\n" % worker.pid))

    def load(self):
        return lambda environ, start_response: []


if __name__ == "__main__":
    os.write(TOLD, b"ready\n")
    Application().run()  # forks, reaps
