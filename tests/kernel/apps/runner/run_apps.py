# SPDX-License-Identifier: Apache-2.0
"""Run the applications named, a few at a time; print what came of each as JSON."""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

DEADLINE_S = 60


def run(path: str) -> tuple[str, dict[str, object]]:
    """Run one application in a directory of its own; return its path and what came of it."""
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as output:
        environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "APP_DIRECTORY": directory}
        process = subprocess.Popen(
            [sys.executable, path],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=directory,
            env=environ,
            start_new_session=True,
        )
        try:
            status = process.wait(DEADLINE_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            status = process.wait()
        output.seek(0)
        text = output.read().decode(errors="replace")
    return path, {"pid": process.pid, "status": status, "output": text}


def main(paths: list[str]) -> None:
    with ThreadPoolExecutor(4) as executor:
        print(json.dumps(dict(executor.map(run, paths))), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
