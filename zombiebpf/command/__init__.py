# SPDX-License-Identifier: Apache-2.0
"""Start the observed command, and pass signals on to it until it exits."""
