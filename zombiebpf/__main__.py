# SPDX-License-Identifier: Apache-2.0
"""The entry point of `zombiebpf` and `python -m zombiebpf`."""

import os
import signal
import sys

# Until main() installs its handlers, Ctrl-C ends the process without a traceback of the imports.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Root leaves no bytecode behind in an ordinary user's clone.
if os.geteuid() == 0 and os.stat(__file__).st_uid != 0:
    sys.dont_write_bytecode = True

from zombiebpf.cli import main

if __name__ == "__main__":
    main()
