# SPDX-License-Identifier: Apache-2.0
"""How durations, actors, source lines and counts are written, in every finding and report."""
