# SPDX-License-Identifier: Apache-2.0
"""Turn stacks into source lines and calls: who forked, who waited, who reaped, and how."""
