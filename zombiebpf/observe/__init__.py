# SPDX-License-Identifier: Apache-2.0
"""Observation sessions: run a command or attach, check the probes, feed the sinks."""
