# SPDX-License-Identifier: Apache-2.0
"""Choose running processes: by PID, name, cgroup or container."""
