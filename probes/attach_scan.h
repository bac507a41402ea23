/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which processes are selected, beside the descendants of those that are
 * followed: by PID, by cgroup, or all. And how one that existed before is taken
 * over: told as it is, then followed like any other.
 */
#if SELECTING

#define PF_KTHREAD 0x00200000 /* include/linux/sched.h */
#define SELECT_ALL (1 << 0)
#define SELECT_CGROUPS (1 << 1)
#define SELECT_SCANNING (1 << 2) /* what exists is being taken over */
#define DEEPEST_CGROUP 32
#define MOST_ANCESTORS 32
#define INSERT_ONLY 1 /* include/uapi/linux/bpf.h, BPF_NOEXIST */

BPF_ARRAY(selection, u32, 1); /* SELECT_... */
BPF_HASH(wanted, u32, u8, 65536); /* the observer's PIDs */
BPF_HASH(wanted_cgroups, u64, u8, 4096); /* with all below them */

static __always_inline u32 selection_mode(void)
{
	int index = 0;
	u32 *mode = selection.lookup(&index);

	return mode ? *mode : 0;
}

static __always_inline bool in_wanted_cgroup(struct task_struct *task)
{
	struct css_set *css = READ(struct css_set *, &task->cgroups);
	struct cgroup *cgroup = READ(struct cgroup *, &css->dfl_cgrp);

#pragma clang loop unroll(disable)
	for (int i = 0; i < DEEPEST_CGROUP; i++) {
		struct kernfs_node *kn =
			READ(struct kernfs_node *, &cgroup->kn);
		u64 id = READ(u64, &kn->id);
		struct cgroup_subsys_state *parent;

		if (wanted_cgroups.lookup(&id))
			return true;
		parent = READ(struct cgroup_subsys_state *,
			      &cgroup->self.parent);
		if (!parent)
			return false;
		cgroup = READ(struct cgroup *, &parent->cgroup);
	}
	return false;
}

/* A child of somebody who is not followed, that is. */
static __always_inline bool is_born_selected(struct task_struct *child)
{
	u32 mode = selection_mode();

	if (mode & SELECT_ALL)
		return !(READ(u32, &child->flags) & PF_KTHREAD);
	return mode & SELECT_CGROUPS && in_wanted_cgroup(child);
}

/* Whether it, or one of its nearest `ancestors`, is selected or followed. */
static __always_inline bool is_selected(struct task_struct *leader,
					const int ancestors)
{
	struct thread thread = thread_of(leader);
	struct task_struct *parent;

	if (READ(u32, &leader->flags) & PF_KTHREAD)
		return false;
	if (is_born_selected(leader))
		return true;
#pragma clang loop unroll(disable)
	for (int i = 0; i <= ancestors; i++) {
		u32 number = visible_pid(&thread);

		if (number && wanted.lookup(&number))
			return true;
		if (i && life_of(&thread))
			return true;
		if (thread.tgid <= 1)
			return false;
		parent = READ(struct task_struct *, &thread.task->real_parent);
		thread = thread_of(
			READ(struct task_struct *, &parent->group_leader));
	}
	return false;
}

/* ZB_SNAPSHOT_EXITING and ZB_SNAPSHOT_ZOMBIE, as of now. */
static __always_inline u32 end_of(struct task_struct *leader)
{
	struct signal_struct *signal =
		READ(struct signal_struct *, &leader->signal);

	if (READ(int, &signal->live) != 0)
		return 0;
	/* a leader cannot be reaped while a thread of its group is left */
	if (READ(u32, &leader->exit_state) == EXIT_ZOMBIE &&
	    READ(u32, &signal->nr_threads) == 1)
		return ZB_SNAPSHOT_EXITING | ZB_SNAPSHOT_ZOMBIE;
	return ZB_SNAPSHOT_EXITING;
}

static __always_inline u32 life_flags(u32 end)
{
	return (end & ZB_SNAPSHOT_EXITING ? LIFE_DEAD : 0) |
	       (end & ZB_SNAPSHOT_ZOMBIE ? LIFE_ZOMBIE : 0);
}

/* What note_death() does, where the exit itself was not seen. */
static __always_inline void note_earlier_death(struct task_struct *leader,
					       u32 tgid, struct life *life)
{
	u64 sighand = life->sighand;
	struct death *other = dead.lookup(&sighand);
	struct death death = {};

	if (other) {
		if (other->tgid != tgid)
			other->shared = 1;
		return;
	}
	death.start_ns = life->start_ns;
	death.leader = (u64)leader;
	death.tgid = tgid;
	death.pid = life->pid;
	dead.insert(&sighand, &death);
	/* released meanwhile: sched_process_free is still to come, and tells */
	if (READ(u64, &leader->sighand) != sighand)
		dead.delete(&sighand);
}

static __always_inline void describe(struct task_struct *leader, u32 tgid,
				     struct zb_record *record)
{
	struct thread parent =
		thread_of(READ(struct task_struct *, &leader->real_parent));
	struct css_set *css = READ(struct css_set *, &leader->cgroups);
	struct cgroup *cgroup = READ(struct cgroup *, &css->dfl_cgrp);
	struct kernfs_node *kn = READ(struct kernfs_node *, &cgroup->kn);
	struct pid_namespace *ns;
	u8 one = 1;

	if (!lives.lookup(&parent.tgid) && kin.update(&parent.tgid, &one))
		count_lost(ZB_LOST_TABLE_FULL);
	record->type = ZB_SNAPSHOT;
	record->ns = bpf_ktime_get_ns();
	record->snapshot.parent_start_ns = start_of(&parent);
	record->snapshot.parent_pid = visible_pid(&parent);
	record->snapshot.parent_tid = visible_tid(&parent);
	record->snapshot.exit_signal = READ(s32, &leader->exit_signal);
	record->snapshot.cgroup_id = READ(u64, &kn->id);
	record->snapshot.code = wait_status(leader);
	record->snapshot.tgid = tgid;
	ns = pidns_of(process_pid(leader), &record->snapshot.ns_pid);
	if (ns)
		record->snapshot.pidns = READ(u32, &ns->ns.inum);
	bpf_probe_read_kernel(&record->snapshot.comm,
			      sizeof(record->snapshot.comm), &leader->comm);
}

/*
 * Follow a process that exists; whether it was not followed yet. Its record is
 * sent before any hook can know it, so that it precedes all others of it. What
 * became of it between the look and the entry in `lives`, no hook has told:
 * look again. `dying`: its exit is just being told by the hook that calls.
 */
static __always_inline bool take_snapshot(struct task_struct *leader, u32 flags,
					  bool dying)
{
	u32 tgid = READ(u32, &leader->tgid), before, now;
	struct life *found = lives.lookup(&tgid);
	struct zb_record record = {};
	struct life life = {};

	life.start_ns = READ(u64, &leader->start_boottime);
	life.sighand = READ(u64, &leader->sighand);
	if (!tgid || !life.sighand ||
	    READ(u32, &leader->exit_state) == EXIT_DEAD)
		return false; /* it is released, or about to be */
	if (found) {
		if (found->start_ns == life.start_ns)
			return false;
		lives.delete(&tgid); /* of one whose end went unseen */
	}
	life.pid = VISIBLE(tgid, process_pid(leader));
	before = dying ? 0 : end_of(leader);
	life.flags = life_flags(before);
	record.start_ns = life.start_ns;
	record.pid = life.pid;
	describe(leader, tgid, &record);
	record.snapshot.flags = flags | before;
	send(&record);
	if (lives.insert(&tgid, &life)) {
		if (!lives.lookup(&tgid))
			count_lost(ZB_LOST_LIVES_FULL);
		return false;
	}
	if (dying)
		return true;
	now = end_of(leader);
	found = lives.lookup(&tgid);
	if (!found || found->start_ns != life.start_ns)
		return true;
	if (life_flags(now) & ~found->flags) {
		found->flags |= life_flags(now);
		found->sighand = life.sighand;
		record.snapshot.flags = flags | now;
		record.snapshot.code = wait_status(leader);
		send(&record);
	}
	if (now)
		note_earlier_death(leader, tgid, &life);
	return true;
}

#else
#define is_born_selected(child) false
#endif
