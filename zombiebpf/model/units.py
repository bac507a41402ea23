# SPDX-License-Identifier: Apache-2.0
"""Units of time. Every duration and instant of the model is an integer of nanoseconds."""

NS_PER_US = 1_000
NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000
