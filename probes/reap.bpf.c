// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reap. release_task() is where a zombie ends, whoever waits and by
 * whichever call, in the reaper's context and before wait4() returns. Where
 * functions cannot be hooked: its __exit_signal() frees the process's
 * sighand_struct at once: kmem_cache_free with a call site inside release_task()
 * and the address noted at the exit.
 */

#if HOOK_KMEM_CACHE_FREE || HOOK_RELEASE_TASK
/* The current thread releases a process, whose entries are gone already. Without
 * `ctx` its stack is not asked for. */
static __always_inline void send_reap(void *ctx, struct task_struct *leader,
				      u64 start_ns, u32 pid, u32 flags)
{
	struct thread thread = current_thread();
	struct task_struct *task = thread.task;
	struct task_struct *real_parent =
		READ(struct task_struct *, &leader->real_parent);
	struct zb_record record = {};
	struct waiting *waiting = 0;
	struct py_process *py = 0;
	u32 parent_tgid = thread.tgid;

	record.ns = bpf_ktime_get_ns();
	record.start_ns = start_ns;
	record.pid = pid;
	record.type = ZB_REAP;
	record.reap.reaper_start_ns = start_of(&thread);
	record.reap.reaper_pid = visible_pid(&thread);
	record.reap.reaper_tid = visible_tid(&thread);
	record.reap.parent_pid = record.reap.reaper_pid;
	record.reap.parent_tid = record.reap.reaper_tid;
	if (real_parent != task) {
		struct thread parent = thread_of(real_parent);

		parent_tgid = parent.tgid;
		record.reap.parent_pid = visible_pid(&parent);
		record.reap.parent_tid = visible_tid(&parent);
	}
	record.reap.code = status_of(leader, READ(struct signal_struct *,
						  &leader->signal));
	record.reap.flags = flags;
	record.reap.syscall = -1;
	record.reap.options = -1;
	bpf_probe_read_kernel(&record.reap.comm, sizeof(record.reap.comm),
			      &task->comm);
	if (parent_tgid == thread.tgid)
		record.reap.flags |= ZB_REAP_BY_PARENT;
	if (READ(u32, &task->exit_state)) {
		record.reap.flags |= ZB_REAP_EXITING;
	} else {
		struct call call = call_of(task);

		record.reap.syscall = call.number;
		record.reap.options = call.options;
#if !WAITS_LEFT_OUT /* else what is known may be of an earlier wait */
		waiting = waits.lookup(&thread.tid);
#endif
		if (waiting &&
		    (call.number == SYS_WAIT4 || call.number == SYS_WAITID))
			record.reap.wait_ns = waiting->ns;
		if (ctx)
			py = python_of(&thread);
		if (py)
			record.reap.flags |= ZB_REAP_STACKED;
	}
	send(&record);
	if (!py)
		return;
	if (record.reap.wait_ns && waiting &&
	    (waiting->stack_id || waiting->problem)) {
		/* it has stood in this wait since: its stack is the same */
		send_stack_of(record.ns, record.start_ns, record.pid,
			      record.reap.reaper_tid, ZB_OF_REAP,
			      waiting->problem, waiting->stack_id,
			      waiting->selves, 0);
		return;
	}
	ask_for_stack(ctx, &thread, py, ZB_OF_REAP, &record);
}
#endif

#if HOOK_KMEM_CACHE_FREE
PROBE(kmem_cache_free)
{
	u64 site = ctx->args[0], sighand, start_ns;
	struct task_struct *leader;
	struct death *death;
	struct life *life;
	u32 tgid, pid;

	/* every free of the machine comes here: leave first, then look */
	if (!REAP_CALL_SITE(site))
		return 0;
	sighand = ctx->args[1];
	death = dead.lookup(&sighand);
	if (!death || death->shared)
		return 0;
	leader = (struct task_struct *)death->leader;
	start_ns = death->start_ns;
	pid = death->pid;
	tgid = death->tgid;
	/* the number is free for others by now: only its own entry goes */
	life = lives.lookup(&tgid);
	if (life && life->start_ns == start_ns)
		lives.delete(&tgid);
	dead.delete(&sighand);
	send_reap(ctx, leader, start_ns, pid, 0);
	return 0;
}
#endif

/* Its entry in `lives` goes, and what was noted of its sighand, if that was its own. */
static __always_inline void forget(struct life *life, u32 tgid)
{
	u64 sighand = life->sighand;
	struct death *death = dead.lookup(&sighand);

	lives.delete(&tgid);
	if (death && (death->tgid == tgid || death->shared))
		dead.delete(&sighand);
}

#if HOOK_RELEASE_TASK
/* Of threads too: a process's end is that of its leader, which is always the last. */
FUNCTION_PROBE(release_task)
{
	struct task_struct *leader = FIRST_ARGUMENT(ctx, release_task);
	struct thread thread = thread_of(leader);
	struct life *life;
	u64 start_ns;
	u32 pid;

	/* an exec by another thread leaves the old leader as its thread */
	if (leader_of(&thread) != leader)
		return 0;
	life = life_of(&thread);
	if (!life || !(life->flags & LIFE_DEAD))
		return 0;
	start_ns = life->start_ns;
	pid = life->pid;
	forget(life, thread.tgid);
	send_reap(ctx, leader, start_ns, pid, 0);
	return 0;
}

/*
 * `task`, the last thread, is past exit_notify(), and was not the leader. The
 * release_task() that released it goes on with the leader, within the same call,
 * if nobody wants to wait for that; a leader that is released without a call of
 * its own has lost its sighand and is not forgotten yet. It was a moment ago.
 */
static __always_inline void send_reap_with_thread(struct task_struct *task)
{
	struct thread thread = thread_of(task);
	struct task_struct *leader = leader_of(&thread);
	struct life *life;
	u64 start_ns;
	u32 pid;

	if (leader == task || READ(u32, &leader->exit_state) != EXIT_DEAD ||
	    READ(u64, &leader->sighand))
		return;
	life = life_of(&thread);
	if (!life || !(life->flags & LIFE_DEAD))
		return;
	start_ns = life->start_ns;
	pid = life->pid;
	forget(life, thread.tgid);
	send_reap(0, leader, start_ns, pid, ZB_REAP_LATE);
}
#endif

/* Freed after an RCU grace period, in a random context: the late bound. */
PROBE(sched_process_free)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct thread thread = thread_of(task), parent;
	struct zb_record record = {};
	struct life *life;

	if (thread.tid != thread.tgid)
		return 0;
	life = lives.lookup(&thread.tgid);
	if (!life || life->start_ns != READ(u64, &task->start_boottime) ||
	    !(life->flags & LIFE_DEAD))
		return 0;
	parent = thread_of(READ(struct task_struct *, &task->real_parent));
	record.ns = bpf_ktime_get_ns();
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_FREED;
	record.freed.parent_pid = visible_pid(&parent);
	record.freed.code = wait_status(task);
	forget(life, thread.tgid);
	send(&record);
	return 0;
}
