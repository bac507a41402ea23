// SPDX-License-Identifier: GPL-2.0-only
/*
 * The program a process runs. sched_process_exec fires in exec_binprm() after
 * the new image is in place: the arguments lie in the new stack, which the
 * kernel has just written, so that reading them never meets a missing page.
 * finalize_exec() is the last thing before, that a loader of programs calls.
 */

#if HOOK_FINALIZE_EXEC
/* task_struct -> its number when the exec began */
BPF_HASH(execs, u64, u32, 16384);
#endif

static __always_inline void forget_exec(struct task_struct *task)
{
#if HOOK_FINALIZE_EXEC
	u64 key = (u64)task;

	execs.delete(&key);
#endif
}

static __always_inline void send_filename(struct zb_record *record,
					  const char *filename)
{
#pragma unroll
	for (int i = 0; i < MAX_FILENAME_CHUNKS; i++) {
		long length = bpf_probe_read_kernel_str(
			record->text.data, ZB_TEXT_BYTES,
			filename + i * (ZB_TEXT_BYTES - 1));

		if (length <= 1 && i)
			return;
		if (length < 1)
			return;
		record->text.kind = ZB_FILENAME;
		record->text.length = length - 1;
		send(record);
		if (length < ZB_TEXT_BYTES)
			return;
	}
}

static __always_inline void send_argv(struct zb_record *record, u64 start,
				      u64 end)
{
	u64 total = end - start;

	record->text.total = total;
#pragma unroll
	for (int i = 0; i < MAX_ARGV_CHUNKS; i++) {
		u64 left = total - i * ZB_TEXT_BYTES;
		u64 length = left < ZB_TEXT_BYTES ? left : ZB_TEXT_BYTES;

		if (i && i * ZB_TEXT_BYTES >= total)
			return;
		/* said anew where clang compares one register and hands on another:
		 * 6.1's verifier knows the bounds of the first only */
		asm volatile("%0 &= 63" : "+r"(length));
		if (read_user(record->text.data, length,
			      (void *)(start + i * ZB_TEXT_BYTES)))
			return;
		record->text.kind = ZB_ARGV;
		record->text.length = length;
		send(record);
	}
}

static __always_inline void note_exec(struct task_struct *task, u32 old_tid,
				      struct linux_binprm *bprm)
{
	struct thread thread = thread_of(task);
	struct life *life = life_of(&thread);
	struct zb_record record = {};
	struct mm_struct *mm;

	forget_python(thread.tgid);
	if (!life)
		return;
	record.ns = bpf_ktime_get_ns();
	record.start_ns = life->start_ns;
	record.pid = life->pid;
	record.type = ZB_EXEC;
	/* a number that is gone cannot be translated into another namespace's */
	record.exec.old_tid = old_tid == thread.tid ? record.pid
			      : OBSERVER_PIDNS == 0 ? old_tid
						    : 0;
	bpf_probe_read_kernel(&record.exec.comm, sizeof(record.exec.comm),
			      &task->comm);
	send(&record);

	record.type = ZB_TEXT;
	record.text.total = 0;
	send_filename(&record, READ(const char *, &bprm->filename));
	mm = READ(struct mm_struct *, &task->mm);
	send_argv(&record, READ(u64, &mm->arg_start), READ(u64, &mm->arg_end));
}

#if HOOK_FINALIZE_EXEC
/* A thread that is not the leader gets the leader's number in between: de_thread(). */
FUNCTION_PROBE(begin_new_exec)
{
	struct thread thread = current_thread();
	u64 key = (u64)thread.task;

	if (thread.tid != thread.tgid && life_of(&thread) &&
	    execs.update(&key, &thread.tid))
		count_lost(ZB_LOST_TABLE_FULL);
	return 0;
}

FUNCTION_PROBE(finalize_exec)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	u64 key = (u64)task;
	u32 *noted = execs.lookup(&key);

	note_exec(task, noted ? *noted : READ(u32, &task->pid),
		  (struct linux_binprm *)FIRST_ARGUMENT(ctx, finalize_exec));
	forget_exec(task);
	return 0;
}
#else
PROBE(sched_process_exec)
{
	note_exec((struct task_struct *)ctx->args[0], ctx->args[1],
		  (struct linux_binprm *)ctx->args[2]);
	return 0;
}
#endif
