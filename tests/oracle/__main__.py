# SPDX-License-Identifier: Apache-2.0
"""Run `python -m tests.oracle`: run.py. `suite` runs suite.py, `hooks` runs variants.py."""

import sys

from tests.oracle import ftrace, run, suite, variants

if __name__ == "__main__":
    ftrace.mount_tracefs()
    if sys.argv[1:2] == ["suite"]:
        sys.exit(suite.main(sys.argv[2:]))
    if sys.argv[1:2] == ["hooks"]:
        sys.exit(variants.main(sys.argv[2:]))
    sys.exit(run.main())
