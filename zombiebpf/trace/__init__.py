# SPDX-License-Identifier: Apache-2.0
"""Write and read trace files: SQLite databases, described in docs/trace-format.md."""

from zombiebpf.trace.filters import Filters, Since, When
from zombiebpf.trace.memory import observe
from zombiebpf.trace.merge import Trace, open_traces, read_trace
from zombiebpf.trace.rotation import Rotation, parts_beside
from zombiebpf.trace.temporary import TemporaryTrace
from zombiebpf.trace.writer import TraceWriter

__all__ = [
    "Filters", "Rotation", "Since", "TemporaryTrace", "Trace", "TraceWriter", "When", "observe",
    "open_traces", "parts_beside", "read_trace",
]  # fmt: skip
