# SPDX-License-Identifier: Apache-2.0
"""Tests that need neither root nor BPF."""
