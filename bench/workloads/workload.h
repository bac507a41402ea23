/* SPDX-License-Identifier: Apache-2.0 */
/* What the workloads share: a clock, a way to die, timed slices of work. */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#define _GNU_SOURCE
#include <inttypes.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline void check(int ok, const char *what)
{
	if (!ok) {
		perror(what);
		exit(1);
	}
}

struct load {
	long operations; /* in a slice */
	long slices;
};

static inline struct load load_from(int argc, char **argv)
{
	struct load load = { 0, 0 };

	if (argc == 3) {
		load.operations = atol(argv[1]);
		load.slices = atol(argv[2]);
	}
	if (load.operations <= 0 || load.slices <= 0) {
		fprintf(stderr, "usage: %s OPERATIONS SLICES\n", argv[0]);
		exit(2);
	}
	return load;
}

/*
 * Always the same CPU, so that neither migrations nor the CPUs' differences tell;
 * the last, as the first tends to serve the interrupts.
 */
static inline void pin_to_one_cpu(void)
{
	int last = sysconf(_SC_NPROCESSORS_ONLN) - 1;
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(last, &set);
	check(sched_setaffinity(0, sizeof(set), &set) == 0,
	      "sched_setaffinity");
}

/* CPU time of this process and of its children that were waited for. */
static inline uint64_t cpu_ns(void)
{
	struct timespec own;
	struct rusage children;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &own);
	getrusage(RUSAGE_CHILDREN, &children);
	return (uint64_t)own.tv_sec * 1000000000 + own.tv_nsec +
	       (uint64_t)(children.ru_utime.tv_sec + children.ru_stime.tv_sec) *
		       1000000000 +
	       (uint64_t)(children.ru_utime.tv_usec +
			  children.ru_stime.tv_usec) *
		       1000;
}

static inline void print_array(const char *name, const uint64_t *values,
			       long count)
{
	printf(", \"%s\": [", name);
	for (long i = 0; i < count; i++)
		printf("%s%" PRIu64, i ? ", " : "", values[i]);
	printf("]");
}

/* Says that it is ready, and waits for a line: one that came later would be timed. */
static inline void wait_for_go(void)
{
	char byte = 0;

	printf("ready\n");
	fflush(stdout);
	while (byte != '\n')
		check(read(STDIN_FILENO, &byte, 1) == 1, "go");
}

/*
 * Calls `slice` once to warm up, then when told to as often as `load` says; prints
 * the time each of those calls took.
 */
static inline void time_slices(struct load load, void (*slice)(long operations))
{
	uint64_t *elapsed = calloc(load.slices, sizeof(*elapsed));
	uint64_t *cpu = calloc(load.slices, sizeof(*cpu));

	check(elapsed && cpu, "calloc");
	slice(load.operations);
	wait_for_go();
	for (long i = 0; i < load.slices; i++) {
		uint64_t began_cpu = cpu_ns(), began = now_ns();

		slice(load.operations);
		elapsed[i] = now_ns() - began;
		cpu[i] = cpu_ns() - began_cpu;
	}
	printf("{\"operations\": %ld", load.operations);
	print_array("elapsed_ns", elapsed, load.slices);
	print_array("cpu_ns", cpu, load.slices);
	printf("}\n");
}

#endif
