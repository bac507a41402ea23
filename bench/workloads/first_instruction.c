// SPDX-License-Identifier: Apache-2.0
/*
 * Prints when it began (CLOCK_MONOTONIC, ns) and stays until its standard input
 * ends: shows how long an observer took to attach, then keeps it attached.
 */
#include "workload.h"

int main(void)
{
	uint64_t began = now_ns();
	char byte;

	printf("%" PRIu64 "\n", began);
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	return 0;
}
