// SPDX-License-Identifier: Apache-2.0
/* The cheapest system call there is: a tax on every call shows here first. */
#include "workload.h"
#include <sys/syscall.h>

static void slice(long operations)
{
	for (long i = 0; i < operations; i++)
		syscall(SYS_getppid);
}

int main(int argc, char **argv)
{
	pin_to_one_cpu();
	time_slices(load_from(argc, argv), slice);
	return 0;
}
