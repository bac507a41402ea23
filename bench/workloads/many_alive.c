// SPDX-License-Identifier: Apache-2.0
/* many_alive COUNT: so many sleeping children; says so, and ends them with its input. */
#include "workload.h"
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

int main(int argc, char **argv)
{
	long count = argc == 2 ? atol(argv[1]) : 0;
	char byte;

	if (count <= 0) {
		fprintf(stderr, "usage: %s COUNT\n", argv[0]);
		return 2;
	}
	for (long i = 0; i < count; i++) {
		pid_t child = fork();

		check(child >= 0, "fork");
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			for (;;)
				pause();
		}
	}
	printf("alive\n");
	fflush(stdout);
	while (read(STDIN_FILENO, &byte, 1) > 0)
		;
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	while (wait(NULL) > 0)
		;
	return 0;
}
