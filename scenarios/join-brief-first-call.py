# SPDX-License-Identifier: Apache-2.0
"""How long join(0.001) takes the first time, and the second."""

import multiprocessing
import sys

import story

if __name__ == "__main__":
    knobs = story.knobs(child=0.9, timeout=0.001, start_method="fork")
    child = multiprocessing.Process(target=story.live, args=(knobs.child,))
    child.start()
    story.started(child, "child")
    story.fact("module_before_first", "multiprocessing.connection" in sys.modules)
    story.join(child, knobs.timeout)
    story.fact("module_after_first", "multiprocessing.connection" in sys.modules)
    story.join(child, knobs.timeout)
