# SPDX-License-Identifier: Apache-2.0
"""A trace in memory, of processes and joins that are known already."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from zombiebpf.model.analysis import Analysis
from zombiebpf.model.life import LifeRow
from zombiebpf.trace.encode import RowBuffer, insert, storable
from zombiebpf.trace.merge import Trace
from zombiebpf.trace.metadata import meta_rows
from zombiebpf.trace.observation import TraceObservation
from zombiebpf.trace.open_file import part_of
from zombiebpf.trace.schema import TABLES

_NAME = "the observation"


@contextmanager
def observe(analysis: Analysis) -> Iterator[TraceObservation]:
    """Answer questions on processes and joins that are in memory."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    for statement in TABLES.values():
        db.execute(statement)
    rows = RowBuffer()
    rows.add(map(LifeRow.of, analysis.lives))
    for join in analysis.joins or ():
        rows.add_join(join)
    own = {"observation": "", "part": 1, "closed": True, "last": True,
           "joins": analysis.joins is not None}  # fmt: skip
    for table, values in meta_rows(analysis.meta, own).items():
        db.executemany(insert(table), map(storable, values))
    for statement, values in rows.statements():
        db.executemany(statement, map(storable, values))
    part = part_of(db, _NAME, being_written=False)
    with Trace([(_NAME, part)]) as trace, trace.observation() as observation:
        yield observation
