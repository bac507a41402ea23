# SPDX-License-Identifier: Apache-2.0
"""What is known about a process: kernel events, process records, call stacks, joins."""
