# SPDX-License-Identifier: Apache-2.0
"""Observe in the kernel how every process is forked, exits, becomes a zombie and is reaped."""

__version__ = "0.1.0"
