# SPDX-License-Identifier: Apache-2.0
"""Lives and stacks -> who forked, who waited, who reaped, and by which call."""

from __future__ import annotations

from zombiebpf.attribution.attribute import KERNEL, NOT_PYTHON, Attribution
from zombiebpf.attribution.joins import Joins
from zombiebpf.attribution.rules import Rules

__all__ = ["KERNEL", "NOT_PYTHON", "Attribution", "Joins", "Rules"]
