/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where glibc keeps what it knows of a thread: its struct pthread (nptl/descr.h). The
 * address is pthread_self(), by which CPython knows the thread: PyThreadState.thread_id.
 */

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define PTHREAD_SPECIFIC 0x310 /* specific_1stblock: the first keys' values */

/* The thread pointer itself (TLS_TCB_AT_TP); the kernel sets it, and knows it. */
static __always_inline u64 pthread_self_of(struct task_struct *task,
					   struct py_process *py)
{
	return READ(u64, &task->thread.fsbase);
}
#else
#define PTHREAD_ROBUST_HEAD 0xe0
#define PTHREAD_SPECIFIC 0x110

/*
 * The thread pointer is no help: the kernel has it as it was at the last switch, but a
 * program's first thread sets the register itself; and it lies behind struct pthread,
 * whose size is another in each glibc. So it is the list of robust mutexes, which lies
 * in it at the same place in all of them: glibc tells the kernel of it in each thread
 * before other code runs there (set_robust_list(2)).
 */
static __always_inline u64 pthread_self_of(struct task_struct *task,
					   struct py_process *py)
{
	u64 list = READ(u64, &task->robust_list);

	/* none: the child of a clone(2) that was not glibc's, a copy of its forker */
	return list ? list - PTHREAD_ROBUST_HEAD : py->forker_thread;
}
#endif
