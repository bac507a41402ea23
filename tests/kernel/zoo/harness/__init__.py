# SPDX-License-Identifier: Apache-2.0
"""What the zoo's workloads share; no workload itself."""
