# SPDX-License-Identifier: Apache-2.0
"""The trace file: a SQLite database, written while observing, read by every report.

docs/trace-format.md describes it.
"""

from zombiebpf.trace.filters import Filters, Since, When
from zombiebpf.trace.merge import Trace, open_traces, read_trace
from zombiebpf.trace.rotation import Rotation, parts_beside
from zombiebpf.trace.writer import TraceWriter

__all__ = [
    "Filters",
    "Rotation",
    "Since",
    "Trace",
    "TraceWriter",
    "When",
    "open_traces",
    "parts_beside",
    "read_trace",
]
