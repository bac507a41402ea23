# SPDX-License-Identifier: Apache-2.0
"""The program: `zombiebpf`, or `python -m zombiebpf`."""

import signal

# Until main() does better, Ctrl-C just ends us: Python would show where the imports were.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

from zombiebpf.cli import main

if __name__ == "__main__":
    main()
