// SPDX-License-Identifier: GPL-2.0-only
/*
 * The zombie begins in exit_notify(), which is inlined. It tells the parent
 * under tasklist_lock, right after EXIT_ZOMBIE is set: signal_generate with a
 * CLD_EXITED, CLD_KILLED or CLD_DUMPED. No signal is sent when the child's
 * exit_signal is 0 or the parent ignores SIGCHLD: then proc_exit_connector(),
 * which do_exit() calls next, tells it, or else the dying thread's last
 * sched_switch, late.
 */

#define CLD_EXITED 1 /* include/uapi/asm-generic/siginfo.h */
#define CLD_DUMPED 3
#define TASK_DEAD 0x00000080 /* include/linux/sched.h */

/* Returns whether children of the thread may have been noted (reparent.h). */
static __always_inline bool send_zombie(struct task_struct *task, u32 flags)
{
	struct thread thread = thread_of(task);
	struct task_struct *leader = leader_of(&thread);
	struct life *life = lives.lookup(&thread.tgid);
	/* read before the entry is known to be this process's: if it becomes
	 * another's meanwhile, that shows then */
	bool noted = !life || life->stashed;
	struct zb_record record = {};
	struct signal_struct *signal;
	struct thread parent;

	if (!life || life->start_ns != READ(u64, &leader->start_boottime))
		return true;
	if (life->flags & LIFE_ZOMBIE ||
	    (!EXITS_LEFT_OUT && !(life->flags & LIFE_DEAD)))
		return noted;
	signal = READ(struct signal_struct *, &leader->signal);
	/* EXIT_DEAD is released, or about to be, by the kernel itself; a leader
	 * cannot be reaped while a thread of its group is left */
	if (READ(u32, &leader->exit_state) != EXIT_ZOMBIE ||
	    READ(int, &signal->nr_threads) != 1)
		return noted;
#if EXITS_LEFT_OUT
	if (!(life->flags & LIFE_DEAD))
		note_death(leader, thread.tgid, READ(u64, &task->sighand),
			   life);
#endif
	life->flags |= LIFE_ZOMBIE;
	parent = thread_of(READ(struct task_struct *, &leader->real_parent));
	record.ns = bpf_ktime_get_ns();
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_ZOMBIE;
	record.zombie.flags = flags;
	record.zombie.parent_pid = visible_pid(&parent);
	record.zombie.parent_tid = visible_tid(&parent);
	record.zombie.code = status_of(leader, signal);
	send(&record);
	return noted;
}

PROBE(signal_generate)
{
	struct kernel_siginfo *info = (struct kernel_siginfo *)ctx->args[1];
	struct task_struct *task;
	s32 code;

	if ((u64)info < 2) /* SEND_SIG_NOINFO, SEND_SIG_PRIV */
		return 0;
	code = READ(s32, &info->si_code);
	if (code < CLD_EXITED || code > CLD_DUMPED)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	/* still 0: a tracer passes a zombie on to its parent, or a dying parent its
	 * zombie children to their adopter (forget_original_parent() comes first) */
	if (READ(u32, &task->exit_state) == 0)
		return 0;
	if (send_zombie(task, 0))
		send_reparent(task, 0, ZB_REPARENT_EXACT);
	return 0;
}

#if HOOK_PROC_EXIT_CONNECTOR
FUNCTION_PROBE(proc_exit_connector)
{
	struct task_struct *task = FIRST_ARGUMENT(ctx, proc_exit_connector);
	bool noted = true;

#if ZOMBIE_AT_PROC_EXIT_CONNECTOR
	noted = send_zombie(task, ZB_ZOMBIE_LATE);
#endif
#if REPARENT_AT_PROC_EXIT_CONNECTOR
	if (noted)
		send_reparent(task, 0, 0);
#endif
#if HOOK_RELEASE_TASK
	send_reap_with_thread(task);
#endif
	return 0;
}
#endif

#if HOOK_KILL_ORPHANED_PGRP
/* reparent_leader(): this child's parent is another process from now on. */
FUNCTION_PROBE(kill_orphaned_pgrp)
{
	struct task_struct *child = FIRST_ARGUMENT(ctx, kill_orphaned_pgrp);
	struct task_struct *father = SECOND_ARGUMENT(ctx, kill_orphaned_pgrp);

	if (father) /* else exit_notify() calls it, of the dying process itself */
		send_reparent(father,
			      READ(struct task_struct *, &child->real_parent),
			      ZB_REPARENT_EXACT);
	return 0;
}
#endif

#if HOOK_SCHED_SWITCH
PROBE(sched_switch)
{
	struct task_struct *task = (struct task_struct *)ctx->args[1];
	int zero = 0;
	u32 *forks, state;
	bool noted = true;

#if SWITCH_HAS_STATE
	/* commit fa2c3254d7cf ("sched/tracing: Don't re-read p->state when
	 * emitting sched_switch event"), 5.18 */
	state = ctx->args[3];
#else
	state = READ(u32, &task->STATE_FIELD);
#endif
	forks = python_forks.lookup(&zero);
	if (forks && *forks) {
		end_block((struct task_struct *)ctx->args[2]);
		if (state & TASK_INTERRUPTIBLE && !(ctx->args[0] & 1))
			note_block(ctx, task);
	}
	if (state != TASK_DEAD)
		return 0;
#if ZOMBIE_AT_SCHED_SWITCH
	noted = send_zombie(task, ZB_ZOMBIE_LATE);
#endif
#if REPARENT_AT_SCHED_SWITCH
	if (noted)
		send_reparent(task, 0, 0);
#endif
	return 0;
}
#endif
