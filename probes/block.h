/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A Python thread that has, or had, children goes to sleep in a system call: where
 * it stood, and for how long. So a join is seen that only polls, one that times
 * out, and what a parent was doing while its child was a zombie. It costs the
 * observed program's own switches a walk; the others a look at `python_forks`,
 * and nothing at all while no Python process has forked.
 */

#define TASK_INTERRUPTIBLE 0x00000001 /* include/linux/sched.h */
#define BLOCK_SENT_NS 500000
#define PIPEFS_MAGIC 0x50495045 /* include/uapi/linux/magic.h */
#define NS_PER_MS 1000000LL
#define NS_PER_S 1000000000LL

/* The descriptor's inode, if it is a pipe. */
static __always_inline u32 pipe_of(struct task_struct *task, u32 fd)
{
	struct files_struct *files = READ(struct files_struct *, &task->files);
	struct fdtable *table = READ(struct fdtable *, &files->fdt);
	struct file **all = READ(struct file **, &table->fd);
	struct inode *inode;
	struct super_block *super;
	struct file *file;

	if (fd >= READ(u32, &table->max_fds))
		return 0;
	file = READ(struct file *, &all[fd]);
	inode = READ(struct inode *, &file->f_inode);
	super = READ(struct super_block *, &inode->i_sb);
	if (READ(u64, &super->s_magic) != PIPEFS_MAGIC)
		return 0;
	return READ(u64, &inode->i_ino);
}

/* The same of the first descriptor of poll()'s array. */
static __always_inline u32 polled_pipe(struct task_struct *task, u64 array)
{
	u32 fd = ~0u;

	read_user(&fd, sizeof(fd), (void *)array);
	return pipe_of(task, fd);
}

static __always_inline s64 timespec_ns(u64 address)
{
	s64 both[2] = {};

	if (!address || read_user(both, sizeof(both), (void *)address))
		return -1;
	return both[0] * NS_PER_S + both[1];
}

static __always_inline s64 milliseconds_ns(u64 argument)
{
	return (s32)argument < 0 ? -1 : (s32)argument * NS_PER_MS;
}

/* How long the call is to last at the most, and what it polls or reads. */
static __always_inline void read_arguments(struct task_struct *task,
					   struct arguments *given,
					   struct blocked *block)
{
	block->timeout_ns = -1;
	switch (given->number) {
#ifdef SYS_POLL
	case SYS_POLL:
		block->timeout_ns = milliseconds_ns(given->third);
		block->pipe = polled_pipe(task, given->first);
		break;
	case SYS_EPOLL_WAIT:
		block->timeout_ns = milliseconds_ns(given->fourth);
		break;
#endif
	case SYS_PPOLL:
		block->timeout_ns = timespec_ns(given->third);
		block->pipe = polled_pipe(task, given->first);
		break;
	case SYS_EPOLL_PWAIT:
		block->timeout_ns = milliseconds_ns(given->fourth);
		break;
	case SYS_READ:
		/* so a fork server tells of a child's PID, and of its end: read_signed(),
		 * multiprocessing/forkserver.py */
		if (given->third == sizeof(s64))
			block->pipe = pipe_of(task, given->first);
		break;
	case SYS_NANOSLEEP:
		block->timeout_ns = timespec_ns(given->first);
		break;
	}
}

/* `task` leaves the CPU of its own will: remember where it stood. */
static __always_inline void note_block(struct bpf_raw_tracepoint_args *ctx,
				       struct task_struct *task)
{
	struct thread thread = thread_of(task);
	struct py_process *py = python_of(&thread);
	struct blocked block = {};
	struct arguments given;
	struct waiting *waiting;
	struct walk *walk;

	if (!py || !py->forked)
		return;
	given = arguments_of(task);
	/* a futex with a timeout is, as a rule, the GIL's: the thread wants to run */
	if (given.number == SYS_FUTEX && given.fourth)
		return;
	block.ns = bpf_ktime_get_ns();
	block.syscall = given.number;
	if (!WAITS_LEFT_OUT &&
	    (given.number == SYS_WAIT4 || given.number == SYS_WAITID)) {
		waiting = waits.lookup(&thread.tid);
		if (waiting && waiting->stack_id) {
			block.timeout_ns = -1;
			block.stack_id = waiting->stack_id;
			__builtin_memcpy(block.selves, waiting->selves,
					 sizeof(block.selves));
			blocks.update(&thread.tid, &block);
			return;
		}
	}
	read_arguments(task, &given, &block);
	walk = new_walk(&thread, py, ZB_OF_BLOCK);
	if (!walk)
		return;
	walk->block = block;
	stages.call(ctx, STAGE_FIND);
	end_walk(walk);
}

/* `task` runs again. */
static __always_inline void end_block(struct task_struct *task)
{
	u32 tid = READ(u32, &task->pid);
	struct blocked *block = blocks.lookup(&tid);
	struct zb_record record = {};
	struct thread thread;
	struct life *life;

	if (!block)
		return;
	record.block.ended_ns = bpf_ktime_get_ns();
	thread = thread_of(task);
	life = life_of(&thread);
	/* a poll of a pipe may be a join's, a read tell of a child, however short */
	if (life && (block->pipe ||
		     record.block.ended_ns - block->ns >= BLOCK_SENT_NS)) {
		record.ns = block->ns;
		record.start_ns = life->start_ns;
		record.pid = life->pid;
		record.type = ZB_BLOCK;
		record.block.stack_id = block->stack_id;
		record.block.timeout_ns = block->timeout_ns;
		record.block.tid = visible_tid(&thread);
		record.block.syscall = block->syscall;
		record.block.pipe = block->pipe;
		__builtin_memcpy(record.block.selves, block->selves,
				 sizeof(record.block.selves));
		send(&record);
	}
	blocks.delete(&tid);
}
