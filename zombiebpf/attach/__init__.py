# SPDX-License-Identifier: Apache-2.0
"""Observe what already runs: choose it, take it over, follow it to its end."""
