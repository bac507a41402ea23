# SPDX-License-Identifier: Apache-2.0
"""zombiebpf: what the kernel knows of every process's birth, death and reaping."""

__version__ = "0.1.0"
