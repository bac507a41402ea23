// SPDX-License-Identifier: Apache-2.0
/* fork, _exit in the child, waitpid: one life an operation. */
#include "workload.h"
#include <sys/wait.h>

static void slice(long operations)
{
	for (long i = 0; i < operations; i++) {
		pid_t child = fork();

		check(child >= 0, "fork");
		if (child == 0)
			_exit(0);
		check(waitpid(child, NULL, 0) == child, "waitpid");
	}
}

int main(int argc, char **argv)
{
	time_slices(load_from(argc, argv), slice);
	return 0;
}
