# SPDX-License-Identifier: Apache-2.0
"""The output of reports: streams and files, and the source text that a report may show."""
