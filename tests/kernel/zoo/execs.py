# SPDX-License-Identifier: Apache-2.0
"""Several execs in one life, and a script, whose argv the kernel rewrites."""

import os

from harness import truth

SCRIPT = "#!/bin/sh\nexec /bin/cat /proc/self/cmdline\n"


def body() -> None:
    with open("script", "w") as file:
        file.write(SCRIPT)
    os.chmod("script", 0o755)
    script = os.path.abspath("script")
    low = truth.now()
    filenames = ("/bin/sh", script, "/bin/cat")
    truth.say("child", exec=[{"filename": each, "ns": [low, None]} for each in filenames])
    truth.say("child", death=[low, None], comm="cat", argv=["/bin/cat", "/proc/self/cmdline"])
    os.dup2(os.open("/dev/null", os.O_WRONLY), 1)
    os.execv("/bin/sh", ["sh", "-c", f"exec {script} argument"])


def left_script() -> None:
    with open("left", "w") as file:
        file.write("#!/bin/sh -u\nexit 4\n")
    os.chmod("left", 0o755)
    low = truth.now()
    truth.say("script", exec=[{"filename": "./left", "ns": [low, None]}], death=[low, None])
    truth.say("script", comm="left", argv=["/bin/sh", "-u", "./left", "one two"])
    os.execv("./left", ["ignored", "one two"])


truth.reap("child", truth.spawn("child", body))
truth.reap("script", truth.spawn("script", left_script))
truth.tell()
