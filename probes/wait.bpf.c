// SPDX-License-Identifier: GPL-2.0-only
/*
 * A thread begins to wait: do_wait(), and sched_process_wait at its head. Its
 * time is kept for the reap, and sent where somebody asked for it and for Python,
 * with the stack. A loop of non-blocking waits would drown the reader, so of those
 * one a millisecond and thread is sent, the others counted.
 */

#define WNOHANG 1 /* include/uapi/linux/wait.h */
#define WAIT_PAUSE_NS 1000000

/* Nobody asks for more than when the thread began to wait. */
static __always_inline void note_time(u32 tid, struct waiting *last, u64 ns)
{
	struct waiting waiting = {};

	if (last) { /* cheaper than an update, which makes a new entry */
		last->ns = ns;
		last->stack_id = 0;
		last->problem = 0;
		return;
	}
	waiting.ns = ns;
	waits.update(&tid, &waiting);
}

static __always_inline void note_wait(void *ctx)
{
	struct thread thread = current_thread();
	struct life *life = life_of(&thread);
	struct py_process *py;
	struct zb_record record = {};
	struct waiting waiting = {};
	struct waiting *last;
	u32 tid = thread.tid;
	struct call call;
	bool polls;

	if (!life)
		return;
	py = python_of(&thread);
	waiting.ns = bpf_ktime_get_ns();
	last = waits.lookup(&tid);
	life->waited = 1;
	if (!SEND_WAITS && !py) {
		note_time(tid, last, waiting.ns);
		return;
	}
	if (last) {
		waiting.sent_ns = last->sent_ns;
		waiting.skipped = last->skipped;
	}
	call = call_of(thread.task);
	polls = call.options != -1 && call.options & WNOHANG;
	if (polls && waiting.ns - waiting.sent_ns < WAIT_PAUSE_NS) {
		waiting.skipped += 1;
		waits.update(&tid, &waiting);
		return;
	}
	record.ns = waiting.ns;
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_WAIT;
	record.wait.tid = visible_tid(&thread);
	record.wait.syscall = call.number;
	record.wait.options = call.options;
	record.wait.target = call.target;
	record.wait.skipped = waiting.skipped;
	waiting.sent_ns = waiting.ns;
	waiting.skipped = 0;
	waits.update(&tid, &waiting);
	send(&record);
	if (py)
		ask_for_stack(ctx, &thread, py, ZB_OF_WAIT, &record);
}

#if HOOK_DO_WAIT
FUNCTION_PROBE(do_wait)
#else
PROBE(sched_process_wait)
#endif
{
	note_wait(ctx);
	return 0;
}
