# SPDX-License-Identifier: Apache-2.0
"""Turn kernel events into process records."""
