# SPDX-License-Identifier: Apache-2.0
"""The test suites; README.md says what each is for."""
