// SPDX-License-Identifier: GPL-2.0-only
/*
 * Death begins. sched_process_exit fires for each thread in do_exit(), and so is
 * taskstats_exit() called; the process dies with its last. Children that the
 * thread leaves behind are noted here, while its list of children still has them
 * (see reparent.h).
 */

static __always_inline void note_death(struct task_struct *leader, u32 tgid,
				       u64 sighand, struct life *life)
{
	struct death death = {};
	struct death *other;

	life->flags |= LIFE_DEAD;
	life->sighand = sighand;
	death.start_ns = life->start_ns;
	death.leader = (u64)leader;
	death.tgid = tgid;
	death.pid = life->pid;
	if (!dead.insert(&sighand, &death))
		return;
	other = dead.lookup(&sighand);
	if (other &&
	    READ(u64, &((struct task_struct *)other->leader)->sighand) ==
		    sighand) {
		/* CLONE_SIGHAND without CLONE_THREAD: it is freed with the last
		 * of several processes; sched_process_free tells of them. Where
		 * the other has let go of it, its reap went unseen and the
		 * memory is in use again (SLAB_TYPESAFE_BY_RCU) */
		other->shared = 1;
		return;
	}
	if (dead.update(&sighand, &death))
		count_lost(ZB_LOST_TABLE_FULL);
}

/* What is known of a thread by its number, which another has next. */
static __always_inline void forget_thread(struct life *life, u32 tid)
{
	if (life->waited)
		waits.delete(&tid);
	if (!is_any_python())
		return;
	tstates.delete(&tid);
	blocks.delete(&tid);
}

/* `group_dead` is the tracepoint's, see is_last_thread(). */
static __always_inline void note_exit(struct task_struct *task, u64 group_dead)
{
	struct thread thread = thread_of(task), parent;
	struct life *life = life_of(&thread);
	struct task_struct *leader;
	struct zb_record record = {};
	struct shared shared;
	bool last;

	if (!life && !kin.lookup(&thread.tgid))
		return;
	last = is_last_thread(task, group_dead);
	stash_children(&thread, life);
	if (!life) {
		if (last)
			kin.delete(&thread.tgid);
		return;
	}
	forget_exec(task);
	forget_thread(life, thread.tid);
	if (!last)
		return;
	forget_python(thread.tgid);
	if (life->flags & LIFE_DEAD)
		return;
	leader = leader_of(&thread);
	shared = shared_of(task);
	note_death(leader, thread.tgid, shared.sighand, life);

	parent = thread_of(READ(struct task_struct *, &leader->real_parent));
	record.ns = bpf_ktime_get_ns();
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_EXIT;
	record.exit.tid = visible_tid(&thread);
	record.exit.parent_pid = visible_pid(&parent);
	record.exit.code = status_of(leader, shared.signal);
	bpf_probe_read_kernel(&record.exit.comm, sizeof(record.exit.comm),
			      &leader->comm);
	send(&record);
}

#if HOOK_TASKSTATS_EXIT
/* Apart from snapshots, as both need more stack than there is; `exiting` is a task
 * and, in its lowest bit, group_dead. */
SUBPROGRAM(tell_exit);
int tell_exit(u64 exiting)
{
	note_exit((struct task_struct *)(exiting & ~1ULL), exiting & 1);
	return 0;
}

FUNCTION_PROBE(taskstats_exit)
{
	struct task_struct *task = FIRST_ARGUMENT(ctx, taskstats_exit);
	u64 group_dead = (u64)SECOND_ARGUMENT(ctx, taskstats_exit) & 1;

#if SELECTING
	snapshot_exiting(task, group_dead);
#endif
	tell_exit_subprogram((u64)task | group_dead);
	return 0;
}
#else
PROBE(sched_process_exit)
{
	note_exit((struct task_struct *)ctx->args[0], EXIT_GROUP_DEAD(ctx));
	return 0;
}
#endif
