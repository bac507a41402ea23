// SPDX-License-Identifier: GPL-2.0-only
/*
 * Death begins. sched_process_exit fires for each thread in do_exit(), and so is
 * taskstats_exit() called; the process dies with its last. Children that the
 * thread leaves behind are noted here, while its list of children still has them
 * (see reparent.h).
 */

static __always_inline void note_death(struct task_struct *task,
				       struct life *life)
{
	struct task_struct *leader =
		READ(struct task_struct *, &task->group_leader);
	struct death death = {};
	struct death *other;

	life->flags |= LIFE_DEAD;
	life->sighand = READ(u64, &task->sighand);
	other = dead.lookup(&life->sighand);
	if (other &&
	    READ(u64, &((struct task_struct *)other->leader)->sighand) ==
		    life->sighand) {
		/* CLONE_SIGHAND without CLONE_THREAD: it is freed with the last
		 * of several processes; sched_process_free tells of them. Where
		 * the other has let go of it, its reap went unseen and the
		 * memory is in use again (SLAB_TYPESAFE_BY_RCU) */
		other->shared = 1;
		return;
	}
	death.start_ns = life->start_ns;
	death.leader = (u64)leader;
	death.tgid = READ(u32, &task->tgid);
	death.pid = life->pid;
	if (dead.update(&life->sighand, &death))
		count_lost(ZB_LOST_TABLE_FULL);
}

static __always_inline void note_exit(struct task_struct *task, bool last)
{
	struct task_struct *leader, *parent;
	struct life *life = life_of(task);
	struct zb_record record = {};
	u32 tid = READ(u32, &task->pid), tgid = READ(u32, &task->tgid);

	if (!life && !kin.lookup(&tgid))
		return;
	stash_children(task);
	if (!life) {
		if (last)
			kin.delete(&tgid);
		return;
	}
	forget_exec(task);
	waits.delete(&tid);
	tstates.delete(&tid);
	blocks.delete(&tid);
	if (last)
		pythons.delete(&tgid);
	if (!last || life->flags & LIFE_DEAD)
		return;
	note_death(task, life);

	leader = READ(struct task_struct *, &task->group_leader);
	parent = READ(struct task_struct *, &leader->real_parent);
	record.ns = bpf_ktime_get_ns();
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_EXIT;
	record.exit.tid = visible_tid(task);
	record.exit.parent_pid = visible_pid(parent);
	record.exit.code = wait_status(leader);
	bpf_probe_read_kernel(&record.exit.comm, sizeof(record.exit.comm),
			      &leader->comm);
	send(&record);
}

#if HOOK_TASKSTATS_EXIT
FUNCTION_PROBE(taskstats_exit)
{
	struct task_struct *task = FIRST_ARGUMENT(ctx, taskstats_exit);
	bool last = (u64)SECOND_ARGUMENT(ctx, taskstats_exit) & 1;

#if SELECTING
	snapshot_exiting(task, last);
#endif
	note_exit(task, last);
	return 0;
}
#else
PROBE(sched_process_exit)
{
	struct task_struct *task = (struct task_struct *)ctx->args[0];

	note_exit(task, is_last_thread(task, EXIT_GROUP_DEAD(ctx)));
	return 0;
}
#endif
