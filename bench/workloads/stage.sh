#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# What is observed: a shell that prints its PID, then runs each line of its input.
echo $$
while read -r line; do
	eval "$line"
done
