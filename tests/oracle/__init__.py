# SPDX-License-Identifier: Apache-2.0
"""Compare zombiebpf with independent tools."""
