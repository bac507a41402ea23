/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Adoption. forget_original_parent() (kernel/exit.c) gives all children of one
 * dying thread to one adopter, so it is enough to remember some children when
 * the thread begins to exit and to read one's real_parent once it is over:
 * one record a dying thread, however many children. Where functions can be
 * hooked, kill_orphaned_pgrp() is called of each child that another process has
 * just got, under tasklist_lock.
 */

/* Remember up to STASHED children of a thread that begins to exit. */
static __always_inline void stash_children(struct thread *thread,
					   struct life *life)
{
	u64 key = (u64)thread->task, head = (u64)&thread->task->children;
	u64 link = READ(u64, head);
	u64 sibling = (u64) & ((struct task_struct *)0)->sibling;
	struct stash stash = {};

	if (!link || link == head)
		return;
#pragma unroll
	for (int i = 0; i < STASHED; i++) {
		if (!link || link == head)
			break;
		stash.child[i] = link - sibling;
		stash.child_start_ns[i] =
			READ(u64, &((struct task_struct *)stash.child[i])
					   ->start_boottime);
		link = READ(u64, link);
	}
	stash.start_ns = start_of(thread);
	stash.pid = visible_pid(thread);
	stash.tid = visible_tid(thread);
	if (life)
		life->stashed = 1;
	if (stashes.update(&key, &stash))
		count_lost(ZB_LOST_TABLE_FULL);
}

/*
 * A sibling thread got them. If it is exiting itself, its own list may have been
 * empty when that began (find_alive_thread() looks at PF_EXITING, which is set
 * before): note them for it.
 */
static __always_inline void stash_again(struct thread *adopter,
					struct stash *stash)
{
	u64 key = (u64)adopter->task;
	struct stash copy = *stash;

	copy.tid = visible_tid(adopter);
	stashes.insert(&key, &copy);
}

static __always_inline struct task_struct *adopter_of(struct task_struct *task,
						      struct stash *stash)
{
	struct task_struct *adopter = 0;

#pragma unroll
	for (int i = 0; i < STASHED; i++) {
		struct task_struct *child =
			(struct task_struct *)stash->child[i];
		struct task_struct *parent;

		/* a sibling thread may have reaped it meanwhile */
		if (adopter || !child ||
		    READ(u64, &child->start_boottime) !=
			    stash->child_start_ns[i])
			continue;
		parent = READ(struct task_struct *, &child->real_parent);
		if (parent != task)
			adopter = parent;
	}
	return adopter;
}

/*
 * The thread's children have been given away: say to whom. `given` is the parent
 * that one of them was just given, 0: one that was noted is looked at.
 */
static __always_inline void send_reparent(struct task_struct *task,
					  struct task_struct *given, u32 exact)
{
	u64 key = (u64)task;
	u32 tgid, number = 0;
	u8 one = 1;
	struct zb_record record = {};
	struct task_struct *found_adopter;
	struct thread adopter;
	struct py_process *py;
	struct stash *found = stashes.lookup(&key);
	struct stash stash;

	if (!found)
		return;
	record.ns = bpf_ktime_get_ns();
	stash = *found;
	found_adopter = given ? given : adopter_of(task, &stash);
	stashes.delete(&key);
	record.type = ZB_REPARENT;
	record.start_ns = stash.start_ns;
	record.pid = stash.pid;
	record.reparent.flags = exact;
	record.reparent.tid = stash.tid;
	bpf_probe_read_kernel(&record.reparent.comm,
			      sizeof(record.reparent.comm), &task->comm);
	if (found_adopter) {
		adopter = thread_of(found_adopter);
		record.reparent.flags |= ZB_REPARENT_RESOLVED;
		record.reparent.adopter_start_ns = start_of(&adopter);
		record.reparent.adopter_pid = visible_pid(&adopter);
		record.reparent.adopter_tid = visible_tid(&adopter);
		bpf_probe_read_kernel(&record.reparent.adopter_comm,
				      sizeof(record.reparent.adopter_comm),
				      &found_adopter->comm);
		if (pidns_of(process_pid(found_adopter), &number) &&
		    number == 1)
			record.reparent.flags |= ZB_REPARENT_INIT;
		tgid = READ(u32, &task->tgid);
		if (adopter.tgid == tgid)
			stash_again(&adopter, &stash);
		py = python_of(&adopter);
		if (py)
			note_children(py);
		if (adopter.tgid != tgid && !lives.lookup(&adopter.tgid) &&
		    kin.update(&adopter.tgid, &one))
			count_lost(ZB_LOST_TABLE_FULL);
	}
	send(&record);
}
