// SPDX-License-Identifier: GPL-2.0-only
/*
 * Take over what existed before the observer, without a gap. The observer asks
 * for a walk over the machine's list of processes, some at each call, under RCU;
 * it is repeated until it finds nothing new, as children may precede parents in
 * it. While that lasts (SELECT_SCANNING), whoever forks or dies is taken over right
 * then, before it is told, so that the probes of forks and exits know him already:
 * by programs that are attached before those, or, as programs of one function have
 * no such order, by those themselves.
 */
#if SELECTING

#define MOST_CHILDREN 128
#define SCAN_STEPS 32
#define SCAN_ASKED 1
#define SCAN_DONE 2

struct scan {
	u64 cursor; /* task_struct that was looked at last; 0: begin */
	u64 start_ns; /* its own, as is tgid: that it is still the same */
	u32 tgid;
	u32 state;
	u32 observer; /* whose wait for a child is the call */
	u32 found;
	u32 restarts;
	u32 seen;
};
BPF_ARRAY(scans, struct scan, 1);

#define DYING 1 /* with a task_struct's address, which is even */

/* take_snapshot() of a process that is followed from now on; `asked`: its leader, DYING. */
SUBPROGRAM(take_over);
int take_over(u64 asked)
{
	return take_snapshot((struct task_struct *)(asked & ~(u64)DYING), 0,
			     asked & DYING);
}

/* A process that the walk meets; whether it is followed from now on. */
SUBPROGRAM(consider);
int consider(u64 leader)
{
	struct task_struct *task = (struct task_struct *)leader;

	return is_selected(task, 1) && take_snapshot(task, 0, false);
}

static __always_inline u64 tasks_link(u64 task)
{
	return task + (u64) & ((struct task_struct *)0)->tasks;
}

/*
 * Where the last call stopped, if that process is still in the list. After
 * list_del_rcu() its successor may be gone, and its own memory another's.
 */
static __always_inline u64 scan_position(struct scan *scan, u64 anchor)
{
	struct task_struct *task = (struct task_struct *)scan->cursor;
	u64 link = tasks_link(scan->cursor);
	u64 previous;

	if (!scan->cursor)
		return anchor;
	previous = READ(u64, link + sizeof(u64));
	if (READ(u64, previous) == link &&
	    READ(u32, &task->tgid) == scan->tgid &&
	    READ(u64, &task->start_boottime) == scan->start_ns)
		return link;
	scan->restarts += 1;
	return anchor;
}

/* sched_process_wait: the observer waits for a child it does not have. */
int on_scan_step(struct bpf_raw_tracepoint_args *ctx)
{
	struct thread current = current_thread();
	struct task_struct *task = 0;
	int index = 0;
	struct scan *scan = scans.lookup(&index);
	u64 anchor, link;

	if (!scan || scan->state != SCAN_ASKED ||
	    visible_pid(&current) != scan->observer)
		return 0;
	anchor = tasks_link((u64)leader_of(&current));
	link = scan_position(scan, anchor);
#pragma clang loop unroll(disable)
	for (int i = 0; i < SCAN_STEPS; i++) {
		link = READ(u64, link);
		if (!link) { /* nothing is there: begin again */
			task = 0;
			scan->restarts += 1;
			break;
		}
		if (link == anchor) {
			scan->state = SCAN_DONE;
			return 0;
		}
		task = (struct task_struct *)(link - tasks_link(0));
		scan->seen += 1;
		if (consider_subprogram((u64)task))
			scan->found += 1;
	}
	scan->cursor = (u64)task;
	scan->tgid = READ(u32, &task->tgid);
	scan->start_ns = READ(u64, &task->start_boottime);
	return 0;
}

static __always_inline void snapshot_forker(struct task_struct *forker)
{
	struct task_struct *leader;
	struct thread thread;

	if (!(selection_mode() & SELECT_SCANNING))
		return;
	thread = thread_of(forker);
	leader = leader_of(&thread);
	if (!life_of(&thread) && is_selected(leader, MOST_ANCESTORS))
		take_snapshot(leader, 0, false);
}

#if !HOOK_WAKE_UP_NEW_TASK
int on_scan_fork(struct bpf_raw_tracepoint_args *ctx)
{
	snapshot_forker((struct task_struct *)ctx->args[0]);
	return 0;
}
#endif

/*
 * The dying and its children: their way up to the selected would be cut. One
 * whose end the walk has met before this hook did is given back to the hook.
 */
static __always_inline void snapshot_exiting(struct task_struct *task,
					     bool last)
{
	struct task_struct *leader;
	struct thread thread;
	struct life *life;
	u64 sibling = (u64) & ((struct task_struct *)0)->sibling;
	u64 head = (u64)&task->children, link = head;

	if (!(selection_mode() & SELECT_SCANNING))
		return;
	thread = thread_of(task);
	life = life_of(&thread);
	if (!life) {
		leader = leader_of(&thread);
		if (!is_selected(leader, MOST_ANCESTORS))
			return;
		take_over_subprogram((u64)leader | DYING);
	}
#if EXIT_HAS_GROUP_DEAD || HOOK_TASKSTATS_EXIT
	else if (last && life->flags & LIFE_DEAD) {
		u64 sighand = life->sighand;

		life->flags &= ~LIFE_DEAD;
		dead.delete(&sighand);
	}
#endif
#pragma clang loop unroll(disable)
	for (int i = 0; i < MOST_CHILDREN; i++) {
		link = READ(u64, link);
		if (!link || link == head)
			return;
		take_over_subprogram(link - sibling);
	}
	count_lost(ZB_LOST_TABLE_FULL);
}

#if !HOOK_TASKSTATS_EXIT
int on_scan_exit(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];

	snapshot_exiting(task, is_last_thread(task, EXIT_GROUP_DEAD(ctx)));
	return 0;
}
#endif

/* cgroup_attach_task: a process came in, by migration. By birth: fork.bpf.c. */
int on_scan_move(struct bpf_raw_tracepoint_args *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx->args[2];
	struct task_struct *leader;
	struct thread thread;

	if (!(selection_mode() & SELECT_CGROUPS))
		return 0;
	thread = thread_of(task);
	leader = leader_of(&thread);
	if (!life_of(&thread) && !(READ(u32, &leader->flags) & PF_KTHREAD) &&
	    in_wanted_cgroup(leader))
		take_snapshot(leader, ZB_SNAPSHOT_JOINED, false);
	return 0;
}
#endif
