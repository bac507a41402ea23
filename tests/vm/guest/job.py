# SPDX-License-Identifier: Apache-2.0
"""What is done in the VM: the steps that job.json names, each with its time limit.

After each step its outcome goes to the console and all results to the disk VM_OUT, so that
the results before a kernel's crash are kept.
"""

from __future__ import annotations

import glob
import json
import os
import platform
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

HERE = Path("/zombiebpf")
OUT = Path("/run/out")
PYTHON = str(HERE / ".venv/bin/python")


def main() -> int:
    job = json.loads((HERE / "job.json").read_text())
    OUT.mkdir(parents=True, exist_ok=True)
    install()
    facts = {"kernel": platform.release(), "machine": platform.machine()}
    facts["python"] = platform.python_version()
    for line in glob.glob("/usr/lib/python3/dist-packages/bcc/version.py"):
        facts["bcc"] = Path(line).read_text().split("'")[1]
    done: list[dict[str, Any]] = []
    results = {"facts": facts, "steps": done}
    for step in job["steps"]:
        done.append(run(step))
        (OUT / "job-results.json").write_text(json.dumps(results, indent=1))
        save()
    return int(any(step["code"] for step in done))


def install() -> None:
    """What `make setup` leaves, of Debian's packages and without a network."""
    subprocess.run(
        ["python3", "-m", "venv", "--system-site-packages", "--without-pip", HERE / ".venv"],
        check=True,
    )
    site = next((HERE / ".venv/lib").glob("python3*/site-packages"))
    (site / "zombiebpf.pth").write_text(f"{HERE}\n")
    program = HERE / ".venv/bin/zombiebpf"
    program.write_text(f"#!{PYTHON}\nfrom zombiebpf.__main__ import main\nmain()\n")
    program.chmod(0o755)


def run(step: dict[str, Any]) -> dict[str, Any]:
    name, limit = step["name"], step["limit_s"]
    print(f"VM-STEP {name}", flush=True)
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": "", "COLUMNS": "120"}
    env.update(step.get("env", {}))
    began = time.monotonic()
    log = OUT / f"{name}.log"
    with log.open("wb") as output:
        shown = subprocess.Popen(["tail", "-n", "+1", "-f", log])  # how far it is, on the console
        try:
            code = subprocess.run(
                ["sh", "-c", step["command"]],
                cwd=HERE, env=env, stdin=subprocess.DEVNULL, stdout=output,
                stderr=subprocess.STDOUT, timeout=limit, check=False,
            ).returncode  # fmt: skip
        except subprocess.TimeoutExpired:
            code = 124
        finally:
            shown.kill()
            shown.wait()
    took = time.monotonic() - began
    tail = log.read_text("utf-8", "replace").splitlines()[-step.get("tail", 3) :]
    print(f"\nVM-DONE {name} {code} {took:.1f} s", *tail, sep="\n    ", flush=True)
    return {"name": name, "code": code, "seconds": round(took, 1), "tail": tail}


def save() -> None:
    with open(os.environ["VM_OUT"], "r+b") as disk, tarfile.open(fileobj=disk, mode="w") as tar:
        tar.add(OUT, "out")
    os.sync()


if __name__ == "__main__":
    sys.exit(main())
