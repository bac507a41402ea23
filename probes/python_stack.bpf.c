// SPDX-License-Identifier: GPL-2.0-only
/*
 * The walk of a thread's own Python stack: find its PyThreadState, follow the
 * frames. Offsets come from `layouts`; a value that is no Python object ends the
 * stack there and then, marked. What becomes of it: python_send.bpf.c.
 */

#define TSTATES_A_STAGE 48
#define FRAMES_A_STAGE 16
#define MOST_LOOKS                                                             \
	(ZB_PY_FRAMES + 16) /* at frames, of which some are not Python's */
/* with FRAMES_A_STAGE and CODES_A_STAGE they stay below the kernel's limit of 33
 * tail calls: 1 + 5, 6, 16 */
#define MOST_TRIES 5
#define FRAME_TRIES 8
#define PTHREAD_FIRST_KEYS 32 /* nptl: the others' values lie elsewhere */

static __always_inline u64 user_u64(struct walk *walk, u64 address)
{
	u64 value = 0;

	walk->unreadable |= read_user(&value, sizeof(value), (void *)address);
	return value;
}

static __always_inline u64 mix(u64 hash, u64 value)
{
	hash = (hash ^ value) * 0x9e3779b97f4a7c15ULL;
	return hash ^ hash >> 32;
}

/* The mask is for the verifier: what follows the raw bytes is walk's own. */
static __always_inline u64 at(u8 *raw, u32 offset)
{
	return *(u64 *)(raw + (offset & 255));
}

static __always_inline u32 half_at(u8 *raw, u32 offset)
{
	return *(u32 *)(raw + (offset & 255));
}

static __always_inline struct walk *own_walk(void)
{
	int zero = 0;
	struct walk *walk = walks.lookup(&zero);

	if (!walk || walk->task != bpf_get_current_task())
		return 0;
	return walk;
}

static __always_inline struct py_layout *layout_of(struct walk *walk)
{
	int index = walk->py.layout;

	return layouts.lookup(&index);
}

static __always_inline u64 current_frame(struct walk *walk,
					 struct py_layout *layout, u64 tstate)
{
	u64 frame = user_u64(walk, tstate + layout->tstate_frame);

	if (frame && layout->cframe_frame != ZB_PY_ABSENT)
		frame = user_u64(walk, frame + layout->cframe_frame);
	return frame;
}

/*
 * The value of the key under which PyGILState keeps the thread's state. Until 3.11
 * it is the first interpreter's even while the thread is in another one.
 */
static __always_inline u64 tstate_of_key(struct walk *walk,
					 struct py_layout *layout)
{
	u64 runtime = walk->py.runtime;
	u32 key = PTHREAD_FIRST_KEYS;

	if (layout->tss_key == ZB_PY_ABSENT)
		return 0;
	walk->unreadable |= read_user(&key, sizeof(key),
				      (void *)(runtime + layout->tss_key));
	if (key >= PTHREAD_FIRST_KEYS)
		return 0;
	/* struct pthread_key_data: uintptr_t seq; void *data */
	return user_u64(walk, walk->thread + PTHREAD_SPECIFIC + key * 16 + 8);
}

static __always_inline u64 known_tstate(struct walk *walk,
					struct py_layout *layout, u64 interp)
{
	bool alone = user_u64(walk, interp + layout->interp_next) == 0;
	u64 tstate = 0;
	u64 *cached;

	if (alone || layout->minor >= 12)
		tstate = tstate_of_key(walk, layout);
	if (tstate &&
	    user_u64(walk, tstate + layout->thread_id) == walk->thread)
		return tstate;
	cached = alone ? tstates.lookup(&walk->key) : 0;
	if (cached &&
	    user_u64(walk, *cached + layout->thread_id) == walk->thread)
		return *cached;
	return 0;
}

/*
 * A page may be gone for a microsecond: where another thread writes to it for the
 * first time after a fork, its entry is cleared before the copy's is set
 * (mm/memory.c, wp_page_copy()). All that is read of a thread's own is there. So
 * is a frame looked at several times.
 */
static __always_inline bool try_again(struct walk *walk)
{
	if (walk->stack.problem != ZB_STACK_UNREADABLE ||
	    walk->tries >= MOST_TRIES)
		return false;
	walk->tries += 1;
	begin_walk(walk);
	return true;
}

static __always_inline void find_thread(void *ctx, struct walk *walk)
{
	struct py_layout *layout = layout_of(walk);
	bool done = false;

	if (!layout)
		return;
	if (!walk->interp) {
		walk->interp = user_u64(
			walk, walk->py.runtime + layout->interpreters_head);
		/* 0 is also the thread_id of a state that is nobody's yet */
		if (!walk->thread)
			walk->interp = 0;
		if (walk->interp)
			walk->fallback =
				known_tstate(walk, layout, walk->interp);
		done = walk->fallback != 0 || !walk->interp;
		if (!done)
			walk->tstate = user_u64(
				walk, walk->interp + layout->threads_head);
	}
	/* newest interpreters and threads come first; the one that runs Python code
	 * is where the thread is, the others wait for it */
#pragma clang loop unroll(disable)
	for (int i = 0; i < TSTATES_A_STAGE && !done; i++) {
		u64 tstate = walk->tstate;

		if (!tstate) {
			walk->interp = user_u64(
				walk, walk->interp + layout->interp_next);
			if (!walk->interp) {
				done = true;
				break;
			}
			walk->tstate = user_u64(
				walk, walk->interp + layout->threads_head);
			continue;
		}
		if (user_u64(walk, tstate + layout->thread_id) ==
		    walk->thread) {
			walk->fallback = tstate;
			if (current_frame(walk, layout, tstate)) {
				done = true;
				break;
			}
		}
		walk->tstate = user_u64(walk, tstate + layout->tstate_next);
	}
	if (!done) {
		stages.call(ctx, STAGE_FIND);
		/* too many threads: it was not looked for to the end */
		walk->unreadable = 1;
	}
	if (walk->fallback) {
		tstates.update(&walk->key, &walk->fallback);
		walk->frame = current_frame(walk, layout, walk->fallback);
		walk->hash = mix(walk->py.lineage, 1);
		if (walk->frame || !walk->unreadable)
			stages.call(ctx, STAGE_WALK);
	}
	walk->stack.problem =
		walk->unreadable ? ZB_STACK_UNREADABLE : ZB_STACK_NO_THREAD;
	if (try_again(walk)) {
		stages.call(ctx, STAGE_FIND);
		walk->stack.problem = ZB_STACK_UNREADABLE; /* too many calls */
	}
	stages.call(ctx, STAGE_SEND);
}

int stage_find(struct bpf_raw_tracepoint_args *ctx)
{
	struct walk *walk = own_walk();

	if (!walk)
		return 0;
	find_thread(ctx, walk);
	end_walk(walk);
	return 0;
}

/*
 * A line table's contents, against other code at the same address: made after the
 * first was freed, or by another process of the lineage. What lies between the
 * beginning and the end of a long one is not looked at: such code is told again
 * for each process. False: it cannot be read, or is no bytes object.
 */
static __always_inline bool mix_table(struct walk *walk, u64 table, u64 *hash)
{
	u64 head[3] = {}; /* ob_type, ob_size, ob_shash */
	u64 value = *hash, bytes;
	u64 *rest;

	if (read_user(head, sizeof(head), (void *)(table + 8)) ||
	    head[0] != walk->py.bytes_type)
		return false;
	value = mix(value, head[1]);
	bytes = AT_MOST(head[1], ZB_TABLE_WORDS * 8);
	/* words are mixed some at a time: a loop that may end after each of them
	 * is verified from there on once for each */
	rest = &walk->words[AT_MOST(bytes / 8, ZB_TABLE_WORDS)];
#pragma unroll
	for (int i = 0; i < ZB_MIXED_WORDS; i++)
		rest[i] = 0;
	/* said anew: of what lay on the stack meanwhile, 5.10's verifier forgets it */
	if (read_user(walk->words, AT_MOST(bytes, ZB_TABLE_WORDS * 8),
		      (void *)(table + 32)))
		return false;
#pragma unroll
	for (int i = 0; i < ZB_TABLE_WORDS; i++) {
		if (i % ZB_MIXED_WORDS == 0 && i * 8 >= bytes)
			break;
		value = mix(value, walk->words[i]);
	}
	if (head[1] > ZB_TABLE_WORDS * 8) {
		if (read_user(walk->words, ZB_TABLE_END_WORDS * 8,
			      (void *)(table + 32 + head[1] -
				       ZB_TABLE_END_WORDS * 8)))
			return false;
#pragma unroll
		for (int i = 0; i < ZB_TABLE_END_WORDS; i++)
			value = mix(value, walk->words[i]);
		value = mix(value, walk->py.own);
	}
	*hash = value;
	return true;
}

/* A frame's code object, and what tells it from others. False: it cannot be read. */
static __always_inline bool
check_code(struct walk *walk, struct py_layout *layout, u64 code, u64 *check)
{
	u64 value, table;

	value = mix(walk->py.lineage, code);
	value = mix(value, at(walk->raw_code, layout->code_filename));
	value = mix(value, at(walk->raw_code, layout->code_name));
	value = mix(value, half_at(walk->raw_code, layout->code_firstlineno));
	table = at(walk->raw_code, layout->code_table);
	value = mix(value, table);
	if (layout->code_version != ZB_PY_ABSENT)
		value = mix(value,
			    half_at(walk->raw_code, layout->code_version));
	*check = value;
	return mix_table(walk, table, check);
}

/* Add the frame, which lies in raw_frame. False: it cannot be read. */
static __always_inline bool
add_frame(struct walk *walk, struct py_layout *layout, u64 frame, u32 depth)
{
	struct zb_frame *out;
	/* the low bits are tags from 3.14 on, else 0 */
	u64 code = at(walk->raw_frame, layout->frame_code) & ~7ULL;
	u64 check, self;

	if (read_user(walk->raw_code, 152, (void *)code) ||
	    at(walk->raw_code, 8) != walk->py.code_type ||
	    !check_code(walk, layout, code, &check))
		return false;
	out = &walk->stack.frames[AT_MOST(depth, ZB_PY_FRAMES - 1)];
	out->code = code;
	out->check = check;
	if (layout->code_adaptive == ZB_PY_ABSENT)
		out->lasti =
			(s32)half_at(walk->raw_frame, layout->frame_lasti) *
			layout->lasti_scale;
	else
		out->lasti = at(walk->raw_frame, layout->frame_lasti) - code -
			     layout->code_adaptive;
	out->unused = 0;
	walk->hash = mix(mix(walk->hash, check), (u32)out->lasti);
	if (depth < ZB_PY_SELVES) {
		self = user_u64(walk, frame + layout->frame_locals);
		walk->selves[AT_MOST(depth, ZB_PY_SELVES - 1)] = self & ~7ULL;
	}
	walk->stack.depth = depth + 1;
	return true;
}

/*
 * Follow some frames; whether there are more. What changes from frame to frame
 * lies in memory: to the verifier all frames are alike then.
 */
static __always_inline bool follow_frames(struct walk *walk,
					  struct py_layout *layout)
{
#pragma clang loop unroll(disable)
	for (int i = 0; i < FRAMES_A_STAGE; i++) {
		u64 frame = walk->frame;
		u32 looked = walk->looked, depth = walk->stack.depth;

		if (!frame)
			return false;
		walk->stack.problem = ZB_STACK_UNREADABLE;
		/* a ring of frames is none: each is held to one that came before,
		 * ever farther back */
		if (frame == walk->mark)
			return false;
		if (looked >= MOST_LOOKS) {
			walk->stack.problem = ZB_STACK_CUT;
			return false;
		}
		if (read_user(walk->raw_frame, 120, (void *)frame))
			goto again;
		if (layout->frame_owner == ZB_PY_ABSENT ||
		    walk->raw_frame[layout->frame_owner & 255] <
			    layout->owner_skip) {
			if (depth >= ZB_PY_FRAMES) {
				walk->stack.problem = ZB_STACK_CUT;
				return false;
			}
			if (!add_frame(walk, layout, frame, depth))
				goto again;
		}
		walk->stack.problem = ZB_STACK_WHOLE;
		walk->frame = at(walk->raw_frame, layout->frame_previous);
		walk->looked = looked + 1;
		if (!(looked & (looked - 1)))
			walk->mark = frame;
		continue;
again:
		walk->tries += 1;
		if (walk->tries > FRAME_TRIES)
			return false;
	}
	return true;
}

static __always_inline void walk_frames(void *ctx, struct walk *walk)
{
	struct py_layout *layout = layout_of(walk);
	u64 hash;

	if (!layout)
		return;
	if (follow_frames(walk, layout)) {
		stages.call(ctx, STAGE_WALK);
		walk->stack.problem = ZB_STACK_CUT; /* too many calls */
	}
	hash = mix(walk->hash, walk->stack.problem);
	walk->stack.stack_id = hash ? hash : 1;
	stages.call(ctx, STAGE_SEND);
}

int stage_walk(struct bpf_raw_tracepoint_args *ctx)
{
	struct walk *walk = own_walk();

	if (!walk)
		return 0;
	walk_frames(ctx, walk);
	end_walk(walk);
	return 0;
}
