// SPDX-License-Identifier: GPL-2.0-only
/*
 * The reap. release_task() is where a zombie ends, whoever waits and by
 * whichever call. Its __exit_signal() frees the process's sighand_struct at
 * once, in the reaper's context and before wait4() returns: kmem_cache_free
 * with a call site inside release_task() and the address noted at the exit.
 */

static __always_inline void forget(struct death *death, u64 sighand)
{
	u32 tgid = death->tgid;
	struct life *life = lives.lookup(&tgid);

	/* the number is free for others by now: only its own entry goes */
	if (life && life->start_ns == death->start_ns)
		lives.delete(&tgid);
	dead.delete(&sighand);
}

#if HOOK_KMEM_CACHE_FREE
PROBE(kmem_cache_free)
{
	u64 site = ctx->args[0], sighand;
	struct task_struct *task, *leader, *parent;
	struct zb_record record = {};
	struct death *death;
	struct waiting *waiting = 0;
	struct py_process *py = 0;
	u32 tid;

	/* every free of the machine comes here: leave first, then look */
	if (!REAP_CALL_SITE(site))
		return 0;
	sighand = ctx->args[1];
	death = dead.lookup(&sighand);
	if (!death || death->shared)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	leader = (struct task_struct *)death->leader;
	parent = READ(struct task_struct *, &leader->real_parent);
	tid = READ(u32, &task->pid);

	record.ns = bpf_ktime_get_ns();
	record.start_ns = death->start_ns;
	record.pid = death->pid;
	record.type = ZB_REAP;
	record.reap.reaper_start_ns = start_of(task);
	record.reap.reaper_pid = visible_pid(task);
	record.reap.reaper_tid = visible_tid(task);
	record.reap.parent_pid = visible_pid(parent);
	record.reap.parent_tid = visible_tid(parent);
	record.reap.code = wait_status(leader);
	record.reap.syscall = -1;
	record.reap.options = -1;
	bpf_probe_read_kernel(&record.reap.comm, sizeof(record.reap.comm),
			      &task->comm);
	if (READ(u32, &parent->tgid) == READ(u32, &task->tgid))
		record.reap.flags |= ZB_REAP_BY_PARENT;
	if (READ(u32, &task->exit_state)) {
		record.reap.flags |= ZB_REAP_EXITING;
	} else {
		struct call call = call_of(task);

		record.reap.syscall = call.number;
		record.reap.options = call.options;
		waiting = waits.lookup(&tid);
		if (waiting &&
		    (call.number == SYS_WAIT4 || call.number == SYS_WAITID))
			record.reap.wait_ns = waiting->ns;
		py = python_of(task);
		if (py)
			record.reap.flags |= ZB_REAP_STACKED;
	}
	forget(death, sighand);
	send(&record);
	if (!py)
		return 0;
	if (record.reap.wait_ns && waiting &&
	    (waiting->stack_id || waiting->problem)) {
		/* it has stood in this wait since: its stack is the same */
		send_stack_of(record.ns, record.start_ns, record.pid,
			      record.reap.reaper_tid, ZB_OF_REAP,
			      waiting->problem, waiting->stack_id,
			      waiting->selves, 0);
		return 0;
	}
	ask_for_stack(ctx, task, py, ZB_OF_REAP, &record);
	return 0;
}
#endif

/* Freed after an RCU grace period, in a random context: the late bound. */
PROBE(sched_process_free)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];
	struct zb_record record = {};
	struct task_struct *parent;
	u32 tgid = READ(u32, &task->tgid);
	struct life *life;
	struct death *death;
	u64 sighand;

	if (READ(u32, &task->pid) != tgid)
		return 0;
	life = lives.lookup(&tgid);
	if (!life || life->start_ns != READ(u64, &task->start_boottime) ||
	    !(life->flags & LIFE_DEAD))
		return 0;
	parent = READ(struct task_struct *, &task->real_parent);
	record.ns = bpf_ktime_get_ns();
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_FREED;
	record.freed.parent_pid = visible_pid(parent);
	record.freed.code = wait_status(task);
	sighand = life->sighand;
	lives.delete(&tgid);
	death = dead.lookup(&sighand);
	if (death && (death->tgid == tgid || death->shared))
		dead.delete(&sighand);
	send(&record);
	return 0;
}
