# SPDX-License-Identifier: Apache-2.0
"""A small bpf(2) library: maps, programs, BTF, ring buffers, kernel symbols."""
