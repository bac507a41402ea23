# SPDX-License-Identifier: Apache-2.0
"""What observing costs, measured beside the same work unobserved, against the budgets."""
