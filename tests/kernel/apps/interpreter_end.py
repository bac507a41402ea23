# SPDX-License-Identifier: Apache-2.0
"""The interpreter's own end reaps: C code, called when modules are cleared."""

import ctypes
import os

if __name__ == "__main__":
    if os.fork() == 0:  # forks
        os._exit(0)
    # The destructor of a capsule is called with the capsule, whose reference count, used
    # no more, is where wait() writes the status to. No Python code runs any more then.
    make = ctypes.pythonapi.PyCapsule_New
    make.restype = ctypes.py_object
    make.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
    wait = ctypes.cast(ctypes.CDLL(None).wait, ctypes.c_void_p)
    capsule = make(1, None, wait)
    # reaps somewhere: interpreter shutdown
