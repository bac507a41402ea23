/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Python stacks: which processes run CPython, and how a probe asks for the stack
 * of its own thread. The stack is walked in the kernel at the instant of the
 * event, in the context of the thread itself: nothing of it moves meanwhile, and
 * that the process dies a microsecond later does no harm.
 *
 * A walk is three programs, one calling the next (python_stack.bpf.c and
 * python_send.bpf.c), so that each is verified once however many probes ask for
 * stacks.
 */

#define STAGE_FIND 0
#define STAGE_WALK 1
#define STAGE_SEND 2

/* A thread's last wait, and its stack then: a reap within it needs no other. */
struct waiting {
	u64 ns;
	u64 sent_ns;
	u32 skipped;
	u32 problem;
	u64 stack_id;
	u64 selves[ZB_STACK_SELVES];
};

/* A Python thread that is off the CPU. */
struct blocked {
	u64 ns;
	u64 stack_id;
	s64 timeout_ns;
	s32 syscall;
	u32 pipe;
	u64 selves[ZB_BLOCK_SELVES];
};

/* What the three programs hand on. */
struct walk {
	u64 task; /* whose it is */
	u64 ns;
	u64 start_ns;
	u64 thread; /* pthread_self() */
	u64 interp;
	u64 tstate;
	u64 fallback;
	struct py_process py;
	struct blocked block;
	u32 pid;
	u32 tid; /* the observer's */
	u32 key; /* the kernel's tid */
	u32 kind;
	u32 next;
	u32 lost;
	u32 unreadable; /* not 0: something could not be read */
	u32 tries;
	u32 looked; /* at frames */
	u32 users;
	u64 frame; /* to be looked at next */
	u64 mark; /* a frame: it must not come again */
	u64 hash; /* of the frames so far */
	u64 selves[ZB_PY_SELVES];
	u64 words[ZB_TABLE_WORDS + ZB_MIXED_WORDS];
	u8 raw_frame[136];
	u8 raw_code[168];
	struct zb_py_stack stack;
};

BPF_HASH(pythons, u32, struct py_process, 16384);
/* 1 before the first entry in `pythons` is made: until then nobody looks there */
BPF_ARRAY(any_python, u32, 1);
BPF_ARRAY(layouts, struct py_layout, 64);
BPF_HASH(templates, u64, struct py_template, 256);
BPF_TABLE("lru_hash", u32, struct waiting, waits, 16384);
BPF_TABLE("lru_hash", u32, struct blocked, blocks, 16384);
BPF_TABLE("lru_hash", u32, u64, tstates, 16384);
/* what was sent: the keys are checks and stack ids, hashes both */
BPF_TABLE("lru_hash", u64, u8, codes_sent, 65536);
BPF_TABLE("lru_hash", u64, u8, stacks_sent, 65536);
BPF_PERCPU_ARRAY(walks, struct walk, 1);
BPF_PERCPU_ARRAY(functions, struct zb_py_code, 1);
BPF_RINGBUF_OUTPUT(pyrecords, PY_RING_PAGES);
BPF_PROG_ARRAY(stages, 3);
/* the same programs once more, of the types that functions' probes may call */
BPF_PROG_ARRAY(fentry_stages, 3);
BPF_PROG_ARRAY(kprobe_stages, 3);
/* 1 from the first fork of a Python process on: until then switches are not looked at */
BPF_ARRAY(python_forks, u32, 1);

static __always_inline bool is_any_python(void)
{
	int zero = 0;
	u32 *any = any_python.lookup(&zero);

	return any && *any;
}

static __always_inline struct py_process *python_of(struct thread *thread)
{
	return is_any_python() ? pythons.lookup(&thread->tgid) : 0;
}

static __always_inline void forget_python(u32 tgid)
{
	if (is_any_python())
		pythons.delete(&tgid);
}

static __always_inline void begin_walk(struct walk *walk)
{
	walk->interp = 0;
	walk->tstate = 0;
	walk->fallback = 0;
	walk->next = 0;
	walk->lost = 0;
	walk->unreadable = 0;
	walk->mark = 0;
	walk->looked = 0;
	walk->stack.depth = 0;
	walk->stack.problem = ZB_STACK_WHOLE;
	walk->stack.stack_id = 0;
}

/* The stack is sent, or cannot be had. */
static __always_inline void end_walk(struct walk *walk)
{
	walk->task = 0;
	__sync_fetch_and_add(&walk->users, -1);
}

/*
 * A processor has room for one walk. Where a task can be preempted in one, others
 * do without meanwhile, and that is counted.
 */
static __always_inline struct walk *new_walk(struct thread *thread,
					     struct py_process *py, u32 kind)
{
	int zero = 0;
	struct walk *walk = walks.lookup(&zero);

	if (!walk)
		return 0;
	__sync_fetch_and_add(&walk->users, 1);
	if (*(volatile u32 *)&walk->users != 1) {
		__sync_fetch_and_add(&walk->users, -1);
		count_lost(ZB_LOST_STACKS);
		return 0;
	}
	walk->task = (u64)thread->task;
	walk->thread = pthread_self_of(thread->task, py);
	walk->py = *py;
	walk->kind = kind;
	walk->tries = 0;
	walk->key = thread->tid;
	walk->tid = visible_tid(thread);
	begin_walk(walk);
	return walk;
}

static __always_inline void send_stack_of(u64 ns, u64 start_ns, u32 pid,
					  u32 tid, u32 kind, u32 problem,
					  u64 stack_id, u64 *selves, u32 first)
{
	struct zb_record record = {};

	record.ns = ns;
	record.start_ns = start_ns;
	record.pid = pid;
	record.type = ZB_STACK;
	record.stack.stack_id = stack_id;
	record.stack.tid = tid;
	record.stack.kind = kind;
	record.stack.problem = problem;
	record.stack.first = first;
#pragma unroll
	for (int i = 0; i < ZB_STACK_SELVES; i++)
		record.stack.selves[i] = selves[i];
	send(&record);
}

/* Of the thread that `record` tells of; comes back only where there is no stack to be had. */
static __always_inline void ask_for_stack(void *ctx, struct thread *thread,
					  struct py_process *py, u32 kind,
					  struct zb_record *record)
{
	struct walk *walk = new_walk(thread, py, kind);

	if (!walk)
		return;
	walk->ns = record->ns;
	walk->start_ns = record->start_ns;
	walk->pid = record->pid;
	stages.call(ctx, STAGE_FIND);
	end_walk(walk);
}

/* From now on it may be asked what its threads were doing meanwhile. */
static __always_inline void note_children(struct py_process *py)
{
	int zero = 0;
	u32 one = 1;

	if (py->forked)
		return;
	py->forked = 1;
	python_forks.update(&zero, &one);
}

/* The same address space, for a while: until the child execs or ends. */
static __always_inline void inherit_python(struct task_struct *forker,
					   struct py_process *py,
					   u32 child_tgid)
{
	struct py_process copy;

	note_children(py);
	copy = *py;
	copy.own = bpf_ktime_get_ns();
	copy.forked = 0;
	copy.forker_thread = pthread_self_of(forker, py);
	if (pythons.update(&child_tgid, &copy))
		count_lost(ZB_LOST_TABLE_FULL);
}
