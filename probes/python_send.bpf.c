// SPDX-License-Identifier: GPL-2.0-only
/*
 * The end of a walk: functions and the stack are sent where they were not sent
 * before, some at each call; then the event's own record, or the note of a thread
 * that goes to sleep.
 */

#define CODES_A_STAGE 4

/* A str's length and the bytes of a character of it; its first bytes go to `to`. */
static __always_inline bool read_str(struct walk *walk,
				     struct py_layout *layout, u64 str,
				     u32 *length, u32 *kind, char *to, u32 room)
{
	struct {
		u64 refcount, type, length, hash;
		u32 state;
	} head = {};
	u32 skip;
	u64 bytes;

	if (read_user(&head, sizeof(head), (void *)str))
		return false;
	/* Include/cpython/unicodeobject.h: interned 2, kind 3, compact 1, ascii 1 */
	if (head.type != walk->py.str_type || !(head.state & 32))
		return false;
	*length = head.length;
	*kind = head.state >> 2 & 7;
	skip = head.state & 64 ? layout->unicode_ascii
			       : layout->unicode_compact;
	bytes = AT_MOST(head.length, room) * *kind;
	bytes = AT_MOST(bytes, room);
	return !read_user(to, bytes, (void *)(str + skip));
}

#define SENT 0
#define NOT_READABLE 1
#define NO_ROOM 2

static __always_inline int send_function(struct walk *walk,
					 struct py_layout *layout,
					 struct zb_frame *frame)
{
	int zero = 0;
	struct zb_py_code *out = functions.lookup(&zero);
	u64 code = frame->code, table, size, sent;
	struct {
		u64 type, size;
	} head = {};

	if (!out)
		return NO_ROOM;
	out->kind = ZB_PY_CODE;
	out->lineage = walk->py.lineage;
	out->code = code;
	out->check = frame->check;
	out->minor = layout->minor;
	if (read_user(&out->firstlineno, sizeof(out->firstlineno),
		      (void *)(code + layout->code_firstlineno)))
		return NOT_READABLE;
	if (!read_str(walk, layout, user_u64(walk, code + layout->code_name),
		      &out->name_length, &out->name_kind, out->name,
		      sizeof(out->name)) ||
	    !read_str(walk, layout,
		      user_u64(walk, code + layout->code_filename),
		      &out->file_length, &out->file_kind, out->file,
		      sizeof(out->file)))
		return NOT_READABLE;
	table = user_u64(walk, code + layout->code_table);
	if (read_user(&head, sizeof(head), (void *)(table + 8)) ||
	    head.type != walk->py.bytes_type)
		return NOT_READABLE;
	out->table_length = head.size;
	sent = AT_MOST(head.size, ZB_PY_TABLE);
	out->table_sent = sent;
	if (read_user(out->table, sent, (void *)(table + 32)))
		return NOT_READABLE;
	size = __builtin_offsetof(struct zb_py_code, table) + sent;
	if (pyrecords.ringbuf_output(out, size, BPF_RB_NO_WAKEUP))
		return NO_ROOM;
	return SENT;
}

/* The event's own record: whose stack it was. */
static __always_inline void finish_walk(struct walk *walk)
{
	u64 id = walk->stack.stack_id;
	u32 problem = walk->stack.problem, depth = walk->stack.depth;
	struct waiting *waiting;

	if (walk->kind == ZB_OF_BLOCK) {
		walk->block.stack_id = id;
#pragma unroll
		for (int i = 0; i < ZB_BLOCK_SELVES; i++)
			walk->block.selves[i] = i < depth ? walk->selves[i] : 0;
		blocks.update(&walk->key, &walk->block);
		return;
	}
#pragma unroll
	for (int i = 0; i < ZB_PY_SELVES; i++)
		if (i >= depth)
			walk->selves[i] = 0;
	if (walk->kind == ZB_OF_WAIT) {
		waiting = waits.lookup(&walk->key);
		if (waiting) {
			waiting->stack_id = id;
			waiting->problem = problem;
			__builtin_memcpy(waiting->selves, walk->selves,
					 sizeof(waiting->selves));
		}
	}
	send_stack_of(walk->ns, walk->start_ns, walk->pid, walk->tid,
		      walk->kind, problem, id, walk->selves, 0);
	if (walk->kind == ZB_OF_FORK && depth > ZB_STACK_SELVES)
		send_stack_of(walk->ns, walk->start_ns, walk->pid, walk->tid,
			      walk->kind, problem, id,
			      walk->selves + ZB_STACK_SELVES, ZB_STACK_SELVES);
}

static __always_inline void send_walk(void *ctx, struct walk *walk)
{
	struct py_layout *layout = layout_of(walk);
	u64 id, size;
	u32 depth;
	u8 one = 1;

	if (!layout)
		return;
	id = walk->stack.stack_id;
	depth = walk->stack.depth;
	if (id && !stacks_sent.lookup(&id)) {
#pragma clang loop unroll(disable)
		for (int i = 0; i < CODES_A_STAGE; i++) {
			struct zb_frame *frame;
			u64 check;
			int result;

			if (walk->next >= depth)
				break;
			frame = &walk->stack.frames[walk->next &
						    (ZB_PY_FRAMES - 1)];
			walk->next += 1;
			check = frame->check;
			if (codes_sent.lookup(&check))
				continue;
			result = send_function(walk, layout, frame);
			if (result == SENT)
				codes_sent.update(&check, &one);
			else
				walk->lost |= result;
		}
		if (walk->next < depth) {
			stages.call(ctx, STAGE_SEND);
			/* too many calls: not all were sent */
			walk->lost |= NO_ROOM;
		}
		walk->stack.kind = ZB_PY_STACK;
		walk->stack.lineage = walk->py.lineage;
		size = __builtin_offsetof(struct zb_py_stack, frames) +
		       AT_MOST(depth, ZB_PY_FRAMES) * sizeof(struct zb_frame);
		if (pyrecords.ringbuf_output(&walk->stack, size,
					     BPF_RB_NO_WAKEUP))
			walk->lost |= NO_ROOM;
		if (walk->lost & NO_ROOM)
			count_lost(ZB_LOST_STACKS);
		if (!walk->lost)
			stacks_sent.update(&id, &one);
	}
	finish_walk(walk);
}

int stage_send(struct bpf_raw_tracepoint_args *ctx)
{
	struct walk *walk = own_walk();

	if (!walk)
		return 0;
	send_walk(ctx, walk);
	end_walk(walk);
	return 0;
}
