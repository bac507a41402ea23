# SPDX-License-Identifier: Apache-2.0
"""The program: `zombiebpf`, or `python -m zombiebpf`."""

from zombiebpf.cli import main

if __name__ == "__main__":
    main()
