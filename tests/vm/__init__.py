# SPDX-License-Identifier: Apache-2.0
"""Run the kernel tests on other kernels, in virtual machines."""
