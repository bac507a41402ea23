# SPDX-License-Identifier: Apache-2.0
"""`python tests/stacks` and `python -m tests.stacks` are the same: see verify.py."""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

if __name__ == "__main__":
    sys.exit(importlib.import_module("verify").main(sys.argv[1:]))
