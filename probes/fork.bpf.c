// SPDX-License-Identifier: GPL-2.0-only
/*
 * Birth. sched_process_fork fires in kernel_clone() after the child is whole and
 * before it is woken: it precedes whatever the child does, and the child's
 * real_parent is right even after CLONE_PARENT. wake_up_new_task() comes next.
 */

/* Whether this is the process whose children begin to be followed: the observer. */
static __always_inline bool is_seed(struct thread *thread)
{
	int index = 0;
	u32 *seed = seeds.lookup(&index);
#if OBSERVER_PIDNS != 0
	struct pid_namespace *ns;
	struct pid *pid;
	u32 number = 0, level;
#endif

	if (!seed || !*seed)
		return false;
#if OBSERVER_PIDNS == 0
	return *seed == thread->tgid;
#else
	/* the observer's own is its innermost */
	pid = process_pid(thread->task);
	ns = pidns_of(pid, &number);
	if (!ns || number != *seed || READ(u32, &ns->ns.inum) != OBSERVER_PIDNS)
		return false;
	/* nothing in user space knows its level: it is learnt from the observer's first fork */
	level = READ(u32, &pid->level);
	index = 1;
	seeds.update(&index, &level);
	return true;
#endif
}

/*
 * A new process has this sighand, so whoever died with it has been released,
 * unseen. Forks of others count too: their ends would be taken for that one's.
 */
static __always_inline void forget_unseen_reap(struct task_struct *forker,
					       u64 sighand)
{
	if (dead.lookup(&sighand) && sighand != READ(u64, &forker->sighand))
		dead.delete(&sighand);
}

static __always_inline void note_fork(void *ctx, struct task_struct *task,
				      struct task_struct *child_task)
{
	struct thread child = thread_of(child_task), forker;
	struct zb_record record = {};
	struct life life = {};
	struct life *forkers;
	struct shared shared;
	struct task_struct *real_parent;
	struct py_process *py;
	struct pid_namespace *ns;
	struct css_set *css;
	struct cgroup *cgroup;
	struct kernfs_node *kn;
	u32 parent_tgid;
	u8 one = 1;

	if (child.tid != child.tgid)
		return; /* a thread */
	shared = shared_of(child_task);
	forget_unseen_reap(task, shared.sighand);
	forker = thread_of(task);
	forkers = life_of(&forker);
	if (!is_seed(&forker) && !forkers && !is_born_selected(child_task))
		return;

	life.start_ns = READ(u64, &child_task->start_boottime);
	life.pid = visible_tid(&child);
	if (lives.update(&child.tgid, &life)) {
		count_lost(ZB_LOST_LIVES_FULL);
		return;
	}
	record.fork.forker_start_ns =
		forkers ? forkers->start_ns : start_of(&forker);
	record.fork.forker_pid = visible_pid(&forker);
	record.fork.forker_tid = visible_tid(&forker);
	record.fork.parent_pid = record.fork.forker_pid;
	record.fork.parent_tid = record.fork.forker_tid;
	parent_tgid = forker.tgid;
	real_parent = READ(struct task_struct *, &child_task->real_parent);
	if (real_parent != task) {
		struct thread parent = thread_of(real_parent);

		parent_tgid = parent.tgid;
		record.fork.parent_pid = visible_pid(&parent);
		record.fork.parent_tid = visible_tid(&parent);
	}
	if (!(forkers && parent_tgid == forker.tgid) &&
	    !lives.lookup(&parent_tgid) && kin.update(&parent_tgid, &one))
		count_lost(ZB_LOST_TABLE_FULL);

	record.ns = bpf_ktime_get_ns();
	record.start_ns = life.start_ns;
	record.pid = life.pid;
	record.type = ZB_FORK;
	record.fork.exit_signal = READ(s32, &child_task->exit_signal);
	ns = pidns_of(pid_of(shared.signal), &record.fork.ns_pid);
	if (ns)
		record.fork.pidns = READ(u32, &ns->ns.inum);
	css = READ(struct css_set *, &child_task->cgroups);
	cgroup = READ(struct cgroup *, &css->dfl_cgrp);
	kn = READ(struct kernfs_node *, &cgroup->kn);
	record.fork.cgroup_id = READ(u64, &kn->id);
	bpf_probe_read_kernel(&record.fork.comm, sizeof(record.fork.comm),
			      &child_task->comm);
	py = python_of(&forker);
	if (py)
		record.fork.flags = ZB_FORK_STACKED;
	send(&record);

	if (!py) {
		/* an entry that its owner's end came before */
		forget_python(child.tgid);
		return;
	}
	inherit_python(task, py, child.tgid);
	ask_for_stack(ctx, &forker, py, ZB_OF_FORK, &record);
}

#if HOOK_WAKE_UP_NEW_TASK
/* Of threads that no fork makes, too: kernel/fork.c, create_io_thread(). */
FUNCTION_PROBE(wake_up_new_task)
{
	struct task_struct *forker =
		(struct task_struct *)bpf_get_current_task();

#if SELECTING
	snapshot_forker(forker);
#endif
	note_fork(ctx, forker, FIRST_ARGUMENT(ctx, wake_up_new_task));
	return 0;
}
#else
PROBE(sched_process_fork)
{
	note_fork(ctx, (struct task_struct *)ctx->args[0],
		  (struct task_struct *)ctx->args[1]);
	return 0;
}
#endif
