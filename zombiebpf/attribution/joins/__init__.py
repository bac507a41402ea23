# SPDX-License-Identifier: Apache-2.0
"""Turn kernel events into joins: who waited for which child, and what came of it."""
