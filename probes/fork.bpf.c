// SPDX-License-Identifier: GPL-2.0-only
/*
 * Birth. sched_process_fork fires in kernel_clone() after the child is whole and
 * before it is woken: it precedes whatever the child does, and the child's
 * real_parent is right even after CLONE_PARENT. wake_up_new_task() comes next.
 */

/* Whether this is the process whose children begin to be followed: the observer. */
static __always_inline bool is_seed(struct task_struct *task)
{
	int index = 0;
	u32 *seed = seeds.lookup(&index);
#if OBSERVER_PIDNS != 0
	struct pid_namespace *ns;
	u32 number = 0, level;
#endif

	if (!seed || !*seed)
		return false;
#if OBSERVER_PIDNS == 0
	return *seed == READ(u32, &task->tgid);
#else
	ns = pidns_of(task, &number); /* the observer's own is its innermost */
	if (!ns || number != *seed || READ(u32, &ns->ns.inum) != OBSERVER_PIDNS)
		return false;
	/* nothing in user space knows its level: it is learnt from the observer's first fork */
	level = READ(u32, &process_pid(task)->level);
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
					       struct task_struct *child)
{
	u64 sighand = READ(u64, &child->sighand);

	if (sighand != READ(u64, &forker->sighand))
		dead.delete(&sighand);
}

static __always_inline void note_fork(void *ctx, struct task_struct *forker,
				      struct task_struct *child)
{
	struct task_struct *parent;
	struct zb_record record = {};
	struct life life = {};
	struct py_process *py;
	u32 tgid = READ(u32, &child->tgid), parent_tgid;
	struct pid_namespace *ns;
	struct css_set *css;
	struct cgroup *cgroup;
	struct kernfs_node *kn;
	bool seed;
	u8 one = 1;

	if (READ(u32, &child->pid) != tgid)
		return; /* a thread */
	forget_unseen_reap(forker, child);
	seed = is_seed(forker);
	if (!seed && !life_of(forker) && !is_born_selected(child))
		return;

	life.start_ns = READ(u64, &child->start_boottime);
	life.pid = visible_tid(child);
	if (lives.update(&tgid, &life)) {
		count_lost(ZB_LOST_LIVES_FULL);
		return;
	}
	parent = READ(struct task_struct *, &child->real_parent);
	parent_tgid = READ(u32, &parent->tgid);
	if (!lives.lookup(&parent_tgid) && kin.update(&parent_tgid, &one))
		count_lost(ZB_LOST_TABLE_FULL);

	record.ns = bpf_ktime_get_ns();
	record.start_ns = life.start_ns;
	record.pid = life.pid;
	record.type = ZB_FORK;
	record.fork.forker_start_ns = start_of(forker);
	record.fork.forker_pid = visible_pid(forker);
	record.fork.forker_tid = visible_tid(forker);
	record.fork.parent_pid = visible_pid(parent);
	record.fork.parent_tid = visible_tid(parent);
	record.fork.exit_signal = READ(s32, &child->exit_signal);
	ns = pidns_of(child, &record.fork.ns_pid);
	if (ns)
		record.fork.pidns = READ(u32, &ns->ns.inum);
	css = READ(struct css_set *, &child->cgroups);
	cgroup = READ(struct cgroup *, &css->dfl_cgrp);
	kn = READ(struct kernfs_node *, &cgroup->kn);
	record.fork.cgroup_id = READ(u64, &kn->id);
	bpf_probe_read_kernel(&record.fork.comm, sizeof(record.fork.comm),
			      &child->comm);
	py = python_of(forker);
	if (py)
		record.fork.flags = ZB_FORK_STACKED;
	send(&record);

	if (!py) {
		/* an entry that its owner's end came before */
		pythons.delete(&tgid);
		return;
	}
	inherit_python(forker, py, tgid);
	ask_for_stack(ctx, forker, py, ZB_OF_FORK, &record);
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
