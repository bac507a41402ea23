# SPDX-License-Identifier: Apache-2.0
"""What is known of CPython: where an interpreter keeps its stacks, and how to read them."""
