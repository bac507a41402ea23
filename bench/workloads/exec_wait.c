// SPDX-License-Identifier: Apache-2.0
/* posix_spawn of a program that returns at once, waitpid: one process and exec an operation. */
#include "workload.h"
#include <spawn.h>
#include <sys/wait.h>

static char *program;

static void slice(long operations)
{
	char *child_argv[] = { program, NULL };
	char *child_environ[] = { NULL };

	for (long i = 0; i < operations; i++) {
		pid_t child;

		check(posix_spawn(&child, "/proc/self/exe", NULL, NULL,
				  child_argv, child_environ) == 0,
		      "posix_spawn");
		check(waitpid(child, NULL, 0) == child, "waitpid");
	}
}

int main(int argc, char **argv)
{
	if (argc == 1)
		return 0;
	program = argv[0];
	time_slices(load_from(argc, argv), slice);
	return 0;
}
