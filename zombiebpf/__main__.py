# SPDX-License-Identifier: Apache-2.0
"""The entry point of `zombiebpf` and `python -m zombiebpf`."""

import atexit
import gc
import os
import signal
import sys
import threading

# Until main() installs its handlers, Ctrl-C ends the process without a traceback of the imports.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)

# Root leaves no bytecode behind in an ordinary user's clone.
if os.geteuid() == 0 and os.stat(__file__).st_uid != 0:
    sys.dont_write_bytecode = True


def main() -> None:
    """Run the command line and exit."""
    gc.disable()  # imports leave no garbage; enabled again when the command is imported
    from zombiebpf import cli

    try:
        cli.main()
    except SystemExit as ended:
        _exit(ended.code)
        raise


def _exit(code: object) -> None:
    """Exit as Python does, but do not free every object first, which takes 10 ms.

    Return if the standard streams cannot be written: Python reports that.
    """
    for thread in threading.enumerate():
        if thread is not threading.current_thread():
            thread.join()
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except (OSError, ValueError):
        return
    if isinstance(code, int):
        os._exit(code)


if __name__ == "__main__":
    main()
