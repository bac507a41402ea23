# SPDX-License-Identifier: Apache-2.0
"""Fork and reap from every shape of Python code there is, and record each stack.

STACKS_RECORD=FILE python main.py [PART...]; parts are the modules named below.
"""

import sys
import traceback
import warnings

import witness

PARTS = (
    "functions",
    "objects",
    "statements",
    "suspended",
    "generated",
    "callbacks",
    "processes",
    "broken",
)


def main(parts):
    warnings.simplefilter("ignore")  # of forks with threads about
    witness.install()
    failed = False
    for part in parts or PARTS:
        for shape in __import__(part).SHAPES:
            try:
                shape()
            except Exception:
                failed = True
                witness.write("error", reason=traceback.format_exc())
    witness.name("end")
    witness.write("end", version=sys.version_info[:3])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
