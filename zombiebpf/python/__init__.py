# SPDX-License-Identifier: Apache-2.0
"""CPython's memory layout and files: find interpreters, read stacks, lines and names."""
