// SPDX-License-Identifier: Apache-2.0
/* open and close: several slab objects allocated and freed an operation. */
#include "workload.h"
#include <fcntl.h>

static void slice(long operations)
{
	for (long i = 0; i < operations; i++) {
		int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

		check(fd >= 0, "open");
		close(fd);
	}
}

int main(int argc, char **argv)
{
	pin_to_one_cpu();
	time_slices(load_from(argc, argv), slice);
	return 0;
}
