# SPDX-License-Identifier: Apache-2.0
"""`python tests/oracle` and `python -m tests.oracle` are the same: run.py; `suite` is suite.py,
`hooks` is variants.py.

The modules here import each other by their bare names, because the workload, which must not need
anything, is one of them and runs as a script.
"""

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

if __name__ == "__main__":
    if sys.argv[1:2] == ["suite"]:
        sys.exit(importlib.import_module("suite").main(sys.argv[2:]))
    if sys.argv[1:2] == ["hooks"]:
        sys.exit(importlib.import_module("variants").main(sys.argv[2:]))
    sys.exit(importlib.import_module("run").main())
