// SPDX-License-Identifier: Apache-2.0
/* pthread_create, pthread_join: the kernel's fork and exit, and no process. */
#include "workload.h"
#include <pthread.h>

static void *nothing(void *argument)
{
	return argument;
}

static void slice(long operations)
{
	for (long i = 0; i < operations; i++) {
		pthread_t thread;

		check(pthread_create(&thread, NULL, nothing, NULL) == 0,
		      "pthread_create");
		check(pthread_join(thread, NULL) == 0, "pthread_join");
	}
}

int main(int argc, char **argv)
{
	time_slices(load_from(argc, argv), slice);
	return 0;
}
