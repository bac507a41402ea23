# SPDX-License-Identifier: Apache-2.0
"""The only rooms that touch bcc or privileges."""
