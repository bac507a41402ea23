# SPDX-License-Identifier: Apache-2.0
"""The user-space half of the probes: compile, choose hooks, attach, read and decode records."""
