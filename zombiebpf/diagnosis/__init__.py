# SPDX-License-Identifier: Apache-2.0
"""Draw conclusions from process records and joins: findings, their fixes, the headline."""
