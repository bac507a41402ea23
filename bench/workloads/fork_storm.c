// SPDX-License-Identifier: Apache-2.0
/*
 * fork_storm SECONDS: every CPU forks, reaps and forks again, as fast as it can.
 * Says when it begins; counts each successful fork, those of its own workers
 * included.
 */
#include "workload.h"
#include <sys/mman.h>
#include <sys/wait.h>

static long storm(uint64_t until_ns)
{
	long forks = 0;

	while (now_ns() < until_ns) {
		pid_t child = fork();

		check(child >= 0, "fork");
		if (child == 0)
			_exit(0);
		forks++;
		check(waitpid(child, NULL, 0) == child, "waitpid");
	}
	return forks;
}

int main(int argc, char **argv)
{
	long seconds = argc == 2 ? atol(argv[1]) : 0;
	long workers = sysconf(_SC_NPROCESSORS_ONLN);
	long *forks = mmap(NULL, workers * sizeof(long), PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint64_t began = now_ns();
	long total = workers;

	if (seconds <= 0) {
		fprintf(stderr, "usage: %s SECONDS\n", argv[0]);
		return 2;
	}
	check(forks != MAP_FAILED, "mmap");
	printf("begun\n");
	fflush(stdout);
	for (long i = 0; i < workers; i++) {
		pid_t worker = fork();

		check(worker >= 0, "fork");
		if (worker == 0) {
			forks[i] = storm(began + seconds * 1000000000ull);
			_exit(0);
		}
	}
	for (long i = 0; i < workers; i++) {
		int status;

		check(wait(&status) > 0, "wait");
		if (status != 0) {
			fprintf(stderr, "a worker failed: %#x\n", status);
			return 1;
		}
	}
	for (long i = 0; i < workers; i++)
		total += forks[i];
	printf("{\"operations\": %ld, \"elapsed_ns\": [%" PRIu64 "]}\n", total,
	       now_ns() - began);
	return 0;
}
