# SPDX-License-Identifier: Apache-2.0
"""Compare captured Python stacks with those of `traceback`."""
