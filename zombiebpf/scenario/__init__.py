# SPDX-License-Identifier: Apache-2.0
"""Scenarios: a workload, a claim about it, and what the kernel says. Pure but for `runner`."""
