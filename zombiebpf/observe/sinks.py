# SPDX-License-Identifier: Apache-2.0
"""Consumers of process records and joins."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from zombiebpf.model.join import Join
from zombiebpf.model.life import Life, LifeRow


class Sink(Protocol):
    """A consumer of process records and joins that are final."""

    def add(self, lives: Sequence[LifeRow], joins: Sequence[Join]) -> None:
        """Take process records and joins, each in the order in which they ended."""


class MemorySink:
    """A sink that keeps everything in memory."""

    def __init__(self) -> None:
        self.lives: list[Life] = []
        self.joins: list[Join] = []

    def add(self, lives: Sequence[LifeRow], joins: Sequence[Join]) -> None:
        """Keep the records and the joins."""
        self.lives += [row.life() for row in lives]
        self.joins += joins
