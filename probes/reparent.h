/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Adoption. forget_original_parent() (kernel/exit.c) gives all children of one
 * dying thread to one adopter, so it is enough to remember some children when
 * the thread begins to exit and to read one's real_parent once it is over:
 * one record a dying thread, however many children.
 */

/* Remember up to STASHED children of a thread that begins to exit. */
static __always_inline void stash_children(struct task_struct *task, u32 tid)
{
	u64 head = (u64)&task->children;
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
		stash.start_ns[i] =
			READ(u64, &((struct task_struct *)stash.child[i])
					   ->start_boottime);
		link = READ(u64, link);
	}
	if (stashes.update(&tid, &stash))
		count_lost(ZB_LOST_TABLE_FULL);
}

/* The thread's children have been given away: say to whom. */
static __always_inline void send_reparent(struct task_struct *task, u32 exact)
{
	struct zb_record record = {};
	struct task_struct *adopter = 0;
	u32 tid = READ(u32, &task->pid), tgid, number = 0;
	struct stash *stash = stashes.lookup(&tid);
	u8 one = 1;

	if (!stash)
		return;
	record.ns = bpf_ktime_get_ns();
#pragma unroll
	for (int i = 0; i < STASHED; i++) {
		struct task_struct *child = (struct task_struct *)stash->child[i];
		struct task_struct *parent;

		/* a sibling thread may have reaped it meanwhile */
		if (adopter || !child ||
		    READ(u64, &child->start_boottime) != stash->start_ns[i])
			continue;
		parent = READ(struct task_struct *, &child->real_parent);
		if (parent != task)
			adopter = parent;
	}
	stashes.delete(&tid);
	record.type = ZB_REPARENT;
	record.reparent.flags = exact;
	record.start_ns = start_of(task);
	record.pid = visible_pid(task);
	record.reparent.tid = visible_tid(task);
	bpf_probe_read_kernel(&record.reparent.comm,
			      sizeof(record.reparent.comm), &task->comm);
	if (adopter) {
		record.reparent.flags |= ZB_REPARENT_RESOLVED;
		record.reparent.adopter_start_ns = start_of(adopter);
		record.reparent.adopter_pid = visible_pid(adopter);
		record.reparent.adopter_tid = visible_tid(adopter);
		bpf_probe_read_kernel(&record.reparent.adopter_comm,
				      sizeof(record.reparent.adopter_comm),
				      &adopter->comm);
		if (pidns_of(READ(struct task_struct *, &adopter->group_leader),
			     &number) &&
		    number == 1)
			record.reparent.flags |= ZB_REPARENT_INIT;
		tgid = READ(u32, &adopter->tgid);
		if (!lives.lookup(&tgid) && kin.update(&tgid, &one))
			count_lost(ZB_LOST_TABLE_FULL);
	}
	send(&record);
}
