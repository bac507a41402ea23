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
 * The function itself follows, outside of the macro: bcc writes its section before
 * the line that it begins on.
 */
#define SUBPROGRAM(name)                                                       \
	static int (*name##_subprogram)(u64) = (void *)NUMBER_OF_##name

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
	u16 flags;
	/* a thread of it, whichever, has an entry in `waits`, in `stashes`: else
	 * nobody looks there for it, as a look at a big table misses the cache */
	u8 waited;
	u8 stashed;
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

/*
 * A read costs some 30 ns, whatever its size: fields that lie near each other are
 * read at once. A field that in some kernel lies elsewhere is read by itself.
 */
#define OFFSET(owner, field) __builtin_offsetof(struct owner, field)
#define WINDOW(owner, first) (OFFSET(owner, first) & ~7UL)
#define READ_WINDOW(raw, owner, first, from)                                   \
	bpf_probe_read_kernel(                                                 \
		raw, sizeof(raw),                                              \
		(const void *)((u64)(from) + WINDOW(owner, first)))
#define FROM_WINDOW(type, raw, owner, first, from, field)                      \
	(OFFSET(owner, field) >= WINDOW(owner, first) &&                       \
			 OFFSET(owner, field) + sizeof(type) <=                \
				 WINDOW(owner, first) + sizeof(raw)            \
		 ? *(type *)((char *)(raw) +                                   \
			     (OFFSET(owner, field) - WINDOW(owner, first)))    \
		 : READ(type, (u64)(from) + OFFSET(owner, field)))

/* A thread, by the kernel's numbers. */
struct thread {
	struct task_struct *task;
	u32 tid;
	u32 tgid;
};

static __always_inline struct thread thread_of(struct task_struct *task)
{
	struct thread thread = { task };
	u64 raw[1] = {};

	READ_WINDOW(raw, task_struct, pid, task);
	thread.tid = FROM_WINDOW(u32, raw, task_struct, pid, task, pid);
	thread.tgid = FROM_WINDOW(u32, raw, task_struct, pid, task, tgid);
	return thread;
}

static __always_inline struct thread current_thread(void)
{
	return thread_of((struct task_struct *)bpf_get_current_task());
}

/* What the threads of a process have in common. */
struct shared {
	struct signal_struct *signal;
	u64 sighand;
};

static __always_inline struct shared shared_of(struct task_struct *task)
{
	struct shared shared;
	u64 raw[2] = {};

	READ_WINDOW(raw, task_struct, signal, task);
	shared.signal = FROM_WINDOW(struct signal_struct *, raw, task_struct,
				    signal, task, signal);
	shared.sighand =
		FROM_WINDOW(u64, raw, task_struct, signal, task, sighand);
	return shared;
}

/* What wait(2) will report: kernel/exit.c, wait_task_zombie(). */
static __always_inline u32 status_of(struct task_struct *leader,
				     struct signal_struct *signal)
{
	u64 raw[4] = {};

#define SIGNAL_FIELD(field)                                                    \
	FROM_WINDOW(u32, raw, signal_struct, group_exit_code, signal, field)
	READ_WINDOW(raw, signal_struct, group_exit_code, signal);
	if (SIGNAL_FIELD(flags) & SIGNAL_GROUP_EXIT)
		return SIGNAL_FIELD(group_exit_code);
#undef SIGNAL_FIELD
	return READ(u32, &leader->exit_code);
}

static __always_inline u32 wait_status(struct task_struct *leader)
{
	struct signal_struct *signal =
		READ(struct signal_struct *, &leader->signal);

	if (READ(u32, &signal->flags) & SIGNAL_GROUP_EXIT)
		return READ(u32, &signal->group_exit_code);
	return READ(u32, &leader->exit_code);
}

/* A process's struct pid: not its leader's, which an exec by another thread changes. */
static __always_inline struct pid *pid_of(struct signal_struct *signal)
{
	return READ(struct pid *, &signal->pids[PIDTYPE_TGID]);
}

static __always_inline struct pid *process_pid(struct task_struct *task)
{
	return pid_of(READ(struct signal_struct *, &task->signal));
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

static __always_inline u32 visible_tid(struct thread *thread)
{
	return VISIBLE(thread->tid,
		       READ(struct pid *, &thread->task->thread_pid));
}

static __always_inline u32 visible_pid(struct thread *thread)
{
	return VISIBLE(thread->tgid, process_pid(thread->task));
}

static __always_inline struct task_struct *leader_of(struct thread *thread)
{
	return READ(struct task_struct *, &thread->task->group_leader);
}

/* When its process started. */
static __always_inline u64 start_of(struct thread *thread)
{
	return READ(u64, &leader_of(thread)->start_boottime);
}

/* The life of a process, unless the entry belongs to an earlier user of its PID. */
static __always_inline struct life *life_of(struct thread *thread)
{
	struct life *life = lives.lookup(&thread->tgid);

	if (!life || life->start_ns != start_of(thread))
		return 0;
	return life;
}

/* Whether the process dies with this thread, which exits. */
static __always_inline bool is_last_thread(struct task_struct *task,
					   u64 group_dead)
{
#if EXIT_HAS_GROUP_DEAD || HOOK_TASKSTATS_EXIT
	return group_dead & 1;
#else
	/* two threads may both see 0: the first counts, see LIFE_DEAD */
	struct signal_struct *signal =
		READ(struct signal_struct *, &task->signal);

	return READ(int, &signal->live) == 0;
#endif
}

/* The innermost PID namespace of a process, and its number there. */
static __always_inline struct pid_namespace *pidns_of(struct pid *pid,
						      u32 *number)
{
	u32 level;
	struct upid innermost;

	if (!pid)
		return 0;
	level = READ(u32, &pid->level) & 31; /* MAX_PID_NS_LEVEL is 32 */
	bpf_probe_read_kernel(&innermost, sizeof(innermost),
			      &pid->numbers[level]);
	*number = innermost.nr;
	return innermost.ns;
}
