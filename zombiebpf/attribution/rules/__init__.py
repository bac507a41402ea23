# SPDX-License-Identifier: Apache-2.0
"""Rules that name a call from its stack, and the built-in rules.yaml."""
