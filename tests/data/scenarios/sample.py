# SPDX-License-Identifier: Apache-2.0
"""A child shorter than its parent, and nobody joins."""

import multiprocessing

import story


class ChildProcess(multiprocessing.Process):
    def __init__(self, process_time):
        multiprocessing.Process.__init__(self)
        self.process_time = process_time

    def run(self):
        story.live(self.process_time)


if __name__ == "__main__":
    knobs = story.knobs(parent=1.0, child=0.4, start_method="fork")
    p = ChildProcess(knobs.child)
    p.start()
    story.started(p, "child")
    story.live(knobs.parent)
