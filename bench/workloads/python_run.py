# SPDX-License-Identifier: Apache-2.0
"""python_run.py OPERATIONS SLICES: subprocess.run() of a program that returns at once."""

import subprocess
import sys
from pathlib import Path

from timed import time_slices

PROGRAM = str(Path(__file__).with_name("exec_wait"))

time_slices(lambda: subprocess.run([PROGRAM], check=True), *map(int, sys.argv[1:]))
