/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the probes share: the processes that are followed, and how to read and
 * send. Included before every probe; the sources are one translation unit,
 * because bcc rewrites map calls in the main file only.
 */

#define READ(type, address)                                                    \
	({                                                                     \
		type read_value = (type)0;                                     \
		bpf_probe_read_kernel(&read_value, sizeof(read_value),         \
				      (const void *)(address));                \
		read_value;                                                    \
	})

/*
 * A value that is at most `bound`, a constant, and that the verifier knows to be:
 * of a C comparison it may see another register's copy (seen on 6.1).
 */
#define AT_MOST(value, bound)                                                  \
	({                                                                     \
		u64 at_most = (value);                                         \
		asm volatile("if %0 <= %1 goto +1\n\t%0 = %1"                  \
			     : "+r"(at_most)                                   \
			     : "i"(bound));                                    \
		at_most;                                                       \
	})

/*
 * bpf_probe_read_user() by a name that bcc does not know: for each place where it
 * meets that one, it reads all of /proc/kallsyms to see whether the kernel has it.
 */
static long (*read_user)(void *to, u32 size,
			 const void *from) = (void *)BPF_FUNC_probe_read_user;

/*
 * A function of one u64 that the verifier checks once, however often it is called:
 * it is not inlined, the loader appends it (zombiebpf/bpf/subprograms.py). Not for
 * programs that also make tail calls: x86_64 can do both since commit e411901c0b77
 * ("bpf: allow for tailcalls in BPF subprograms for x64 JIT"), 5.10, arm64 since 6.0.
 */
#define SUBPROGRAM(name)                                                       \
	static int (*name##_subprogram)(u64) = (void *)NUMBER_OF_##name;       \
	int name

/* A raw tracepoint's program; the loader attaches on_NAME to NAME. */
#define PROBE(name) int on_##name(struct bpf_raw_tracepoint_args *ctx)

#define PIDTYPE_TGID 1 /* include/linux/pid_types.h */
#define EXIT_DEAD 0x00000010 /* include/linux/sched.h */
#define EXIT_ZOMBIE 0x00000020
#define SIGNAL_GROUP_EXIT 0x00000004 /* include/linux/sched/signal.h */

#define LIFE_DEAD (1 << 0) /* the last thread has begun to exit */
#define LIFE_ZOMBIE (1 << 1) /* ZB_ZOMBIE was sent */

/* A followed process, from its fork to its reap; the key is the kernel's tgid. */
struct life {
	u64 start_ns;
	u64 sighand; /* key in `dead`, once it has exited */
	u32 pid; /* observer's */
	u32 flags;
};

/* A process between its exit and its reap; the key is its sighand_struct's address. */
struct death {
	u64 start_ns;
	u64 leader; /* task_struct; its fields stay readable until it is freed */
	u32 tgid;
	u32 pid;
	u32 shared; /* several processes use this sighand: it tells nothing */
	u32 unused;
};

/*
 * A dying thread's children, any of which tells later who adopted all of them.
 * The key is the thread's task_struct: its numbers are gone, or another's, by then.
 */
#define STASHED 4
struct stash {
	u64 child[STASHED];
	u64 child_start_ns[STASHED];
	u64 start_ns; /* of the thread's process */
	u32 pid;
	u32 tid;
};

BPF_RINGBUF_OUTPUT(events, RING_PAGES);
BPF_PERCPU_ARRAY(lost, u64, ZB_LOST_CAUSES);
/* [0] is the PID whose forks begin to be followed, 0: nobody's; [1] is the level
 * of the observer's PID namespace, where that is not the machine's first */
BPF_ARRAY(seeds, u32, 2);
BPF_HASH(lives, u32, struct life, MAX_LIVES);
BPF_HASH(dead, u64, struct death, MAX_LIVES);
/* processes not followed that have, or may have, followed children */
BPF_HASH(kin, u32, u8, 16384);
BPF_HASH(stashes, u64, struct stash, 16384);

static __always_inline void count_lost(u32 cause)
{
	u64 *count = lost.lookup(&cause);

	if (count)
		*count += 1;
}

static __always_inline void send(struct zb_record *record)
{
	/* no wake-up: the reader polls, a wake-up an event would cost both */
	if (events.ringbuf_output(record, sizeof(*record), BPF_RB_NO_WAKEUP))
		count_lost(ZB_LOST_RING_FULL);
}

/* A process's struct pid: not its leader's, which an exec by another thread changes. */
static __always_inline struct pid *process_pid(struct task_struct *task)
{
	struct signal_struct *signal =
		READ(struct signal_struct *, &task->signal);

	return READ(struct pid *, &signal->pids[PIDTYPE_TGID]);
}

#if OBSERVER_PIDNS != 0
/* A number as the observer's PID namespace has it; 0 where it cannot see the process. */
static __always_inline u32 translate(struct pid *pid)
{
	int index = 1;
	u32 *level = seeds.lookup(&index);
	struct pid_namespace *ns;

	if (!level || !pid || *level > READ(u32, &pid->level))
		return 0;
	ns = READ(struct pid_namespace *, &pid->numbers[*level & 31].ns);
	if (READ(u32, &ns->ns.inum) != OBSERVER_PIDNS)
		return 0;
	return READ(u32, &pid->numbers[*level & 31].nr);
}
#define VISIBLE(number, pid) translate(pid)
#else
#define VISIBLE(number, pid) (number)
#endif

static __always_inline u32 visible_tid(struct task_struct *task)
{
	return VISIBLE(READ(u32, &task->pid),
		       READ(struct pid *, &task->thread_pid));
}

static __always_inline u32 visible_pid(struct task_struct *task)
{
	return VISIBLE(READ(u32, &task->tgid), process_pid(task));
}

static __always_inline u64 start_of(struct task_struct *task)
{
	struct task_struct *leader =
		READ(struct task_struct *, &task->group_leader);

	return READ(u64, &leader->start_boottime);
}

/* The life of a process, unless the entry belongs to an earlier user of its PID. */
static __always_inline struct life *life_of(struct task_struct *task)
{
	u32 tgid = READ(u32, &task->tgid);
	struct life *life = lives.lookup(&tgid);

	if (!life || life->start_ns != start_of(task))
		return 0;
	return life;
}

/* Whether the process dies with this thread, which exits. */
static __always_inline bool is_last_thread(struct task_struct *task,
					   u64 group_dead)
{
#if EXIT_HAS_GROUP_DEAD
	return group_dead & 1;
#else
	/* two threads may both see 0: the first counts, see LIFE_DEAD */
	struct signal_struct *signal =
		READ(struct signal_struct *, &task->signal);

	return READ(int, &signal->live) == 0;
#endif
}

/* What wait(2) will report: kernel/exit.c, wait_task_zombie(). */
static __always_inline u32 wait_status(struct task_struct *leader)
{
	struct signal_struct *signal =
		READ(struct signal_struct *, &leader->signal);

	if (READ(u32, &signal->flags) & SIGNAL_GROUP_EXIT)
		return READ(u32, &signal->group_exit_code);
	return READ(u32, &leader->exit_code);
}

/* The innermost PID namespace of a process, and its number there. */
static __always_inline struct pid_namespace *pidns_of(struct task_struct *task,
						      u32 *number)
{
	struct pid *pid = process_pid(task);
	u32 level;

	if (!pid)
		return 0;
	level = READ(u32, &pid->level) & 31; /* MAX_PID_NS_LEVEL is 32 */
	*number = READ(u32, &pid->numbers[level].nr);
	return READ(struct pid_namespace *, &pid->numbers[level].ns);
}
