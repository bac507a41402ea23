// SPDX-License-Identifier: Apache-2.0
/* A byte to another process and back, on one CPU: two switches an operation. */
#include "workload.h"
#include <sys/wait.h>

static int there[2], back[2];

static void echo_until_closed(void)
{
	char byte;

	close(there[1]);
	while (read(there[0], &byte, 1) == 1)
		check(write(back[1], &byte, 1) == 1, "write");
	_exit(0);
}

static void slice(long operations)
{
	char byte = 0;

	for (long i = 0; i < operations; i++) {
		check(write(there[1], &byte, 1) == 1, "write");
		check(read(back[0], &byte, 1) == 1, "read");
	}
}

int main(int argc, char **argv)
{
	struct load load = load_from(argc, argv);

	check(pipe(there) == 0 && pipe(back) == 0, "pipe");
	pin_to_one_cpu();
	pid_t child = fork();

	check(child >= 0, "fork");
	if (child == 0)
		echo_until_closed();
	time_slices(load, slice);
	close(there[1]);
	check(waitpid(child, NULL, 0) == child, "waitpid");
	return 0;
}
