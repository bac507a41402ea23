# SPDX-License-Identifier: Apache-2.0
"""Run `python -m tests.stacks`: verify.py."""

import sys

from tests.stacks import verify

if __name__ == "__main__":
    sys.exit(verify.main(sys.argv[1:]))
