/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The wire contract: the one fixed-size record that every probe writes. Widths
 * are fixed, members lie large to small, and nothing is left to padding.
 * zombiebpf/model/events.py declares the same members; tests/kernel/test_wire.py
 * compares every offset.
 *
 * Times are CLOCK_MONOTONIC nanoseconds (bpf_ktime_get_ns), except start_ns,
 * which is task_struct.start_boottime. PIDs are those of the observer's PID
 * namespace, 0 where it cannot see the process.
 */
#ifndef ZB_WIRE_H
#define ZB_WIRE_H

#define ZB_TEXT_BYTES 56
#define ZB_COMM_BYTES 16

enum zb_type {
	ZB_FORK = 1,
	ZB_EXEC = 2,
	ZB_TEXT = 3,
	ZB_EXIT = 4,
	ZB_ZOMBIE = 5,
	ZB_REPARENT = 6,
	ZB_WAIT = 7,
	ZB_REAP = 8,
	ZB_FREED = 9,
	ZB_STACK = 10,
	ZB_BLOCK = 11,
	ZB_SNAPSHOT = 12,
};

enum zb_text_kind {
	ZB_FILENAME = 1,
	ZB_ARGV = 2,
};

/* STACK: which event it belongs to */
enum zb_stack_kind {
	ZB_OF_FORK = 1,
	ZB_OF_WAIT = 2,
	ZB_OF_REAP = 3,
	ZB_OF_BLOCK = 4,
};

/* STACK: why it is not whole */
enum zb_stack_problem {
	ZB_STACK_WHOLE = 0,
	ZB_STACK_CUT = 1,
	ZB_STACK_UNREADABLE = 2,
	ZB_STACK_NO_THREAD = 3,
	ZB_STACK_UNREGISTERED = 4,
	ZB_STACK_LOST = 5,
};

/* flags, each type has its own */
#define ZB_ZOMBIE_LATE (1 << 0) /* ZOMBIE: no signal told of it, a later look */
#define ZB_FORK_STACKED (1 << 0) /* FORK: a STACK follows */
#define ZB_REPARENT_INIT                                                       \
	(1 << 0) /* REPARENT: adopter is its namespace's init */
#define ZB_REPARENT_RESOLVED (1 << 1) /* REPARENT: the adopter was read */
#define ZB_REPARENT_EXACT (1 << 2) /* REPARENT: stamped under tasklist_lock */
#define ZB_SNAPSHOT_EXITING (1 << 0) /* SNAPSHOT: its exit had begun */
#define ZB_SNAPSHOT_ZOMBIE (1 << 1) /* SNAPSHOT: it was a zombie */
#define ZB_SNAPSHOT_JOINED                                                     \
	(1 << 2) /* SNAPSHOT: it came into a selected cgroup */
#define ZB_REAP_EXITING (1 << 0) /* REAP: the reaper is past exit_notify */
#define ZB_REAP_BY_PARENT                                                      \
	(1 << 1) /* REAP: current's process is real_parent's */
#define ZB_REAP_STACKED (1 << 2) /* REAP: a STACK follows */
#define ZB_REAP_LATE (1 << 3) /* REAP: told when the release was over */

struct zb_fork {
	u64 forker_start_ns;
	u64 cgroup_id;
	u32 forker_pid;
	u32 forker_tid;
	u32 parent_pid;
	u32 parent_tid;
	s32 exit_signal;
	u32 pidns;
	u32 ns_pid;
	char comm[ZB_COMM_BYTES];
	u32 flags;
};

struct zb_exec {
	u32 old_tid;
	char comm[ZB_COMM_BYTES];
};

struct zb_text {
	u16 kind;
	u16 length; /* bytes in data */
	u32 total;
	char data[ZB_TEXT_BYTES];
};

struct zb_exit {
	u32 tid;
	u32 parent_pid;
	u32 code;
	char comm[ZB_COMM_BYTES];
};

struct zb_zombie {
	u32 parent_pid;
	u32 parent_tid;
	u32 code;
	u32 flags;
};

struct zb_reparent {
	u64 adopter_start_ns;
	u32 tid;
	u32 adopter_pid;
	u32 adopter_tid;
	u32 flags;
	char comm[ZB_COMM_BYTES];
	char adopter_comm[ZB_COMM_BYTES];
};

struct zb_wait {
	u32 tid;
	s32 syscall;
	s32 options;
	s32 target;
	u32 skipped;
};

struct zb_reap {
	u64 reaper_start_ns;
	u64 wait_ns;
	u32 reaper_pid;
	u32 reaper_tid;
	u32 parent_pid;
	u32 parent_tid;
	u32 code;
	s32 syscall;
	s32 options;
	u32 flags;
	char comm[ZB_COMM_BYTES];
};

struct zb_freed {
	u32 parent_pid;
	u32 code;
};

#define ZB_STACK_SELVES 6
#define ZB_BLOCK_SELVES 3

struct zb_stack {
	u64 stack_id;
	u32 tid;
	u8 kind;
	u8 problem;
	u8 first; /* the frame of selves[0] */
	u8 unused;
	u64 selves[ZB_STACK_SELVES];
};

struct zb_block {
	u64 ended_ns;
	u64 stack_id;
	s64 timeout_ns;
	u32 tid;
	s32 syscall;
	u32 pipe;
	u32 unused;
	u64 selves[ZB_BLOCK_SELVES];
};

struct zb_snapshot {
	u64 parent_start_ns;
	u64 cgroup_id;
	u32 parent_pid;
	u32 parent_tid;
	s32 exit_signal;
	u32 pidns;
	u32 ns_pid;
	u32 code;
	u32 flags;
	u32 tgid; /* the machine's own number of it */
	char comm[ZB_COMM_BYTES];
};

struct zb_record {
	u64 ns;
	u64 start_ns;
	u32 pid;
	u16 type;
	u16 unused;
	union {
		struct zb_fork fork;
		struct zb_exec exec;
		struct zb_text text;
		struct zb_exit exit;
		struct zb_zombie zombie;
		struct zb_reparent reparent;
		struct zb_wait wait;
		struct zb_reap reap;
		struct zb_freed freed;
		struct zb_stack stack;
		struct zb_block block;
		struct zb_snapshot snapshot;
	};
};

/* why a record, or a whole life, was lost: indexes of the per-CPU array `lost` */
enum zb_lost {
	ZB_LOST_RING_FULL = 0,
	ZB_LOST_LIVES_FULL = 1,
	ZB_LOST_TABLE_FULL = 2,
	ZB_LOST_STACKS = 3, /* a stack's or a function's: the facts are there */
	ZB_LOST_CAUSES = 4,
};

#endif
