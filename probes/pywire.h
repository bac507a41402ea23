/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the probes and user space share about Python: how an interpreter lies in
 * memory (written by zombiebpf/kernel/interpreters.py from zombiebpf/python/offsets.py),
 * and the records of the second ring buffer, of variable size, which
 * zombiebpf/python/stacks.py reads: a stack, or a code object, is sent once.
 */
#ifndef ZB_PYWIRE_H
#define ZB_PYWIRE_H

#define ZB_PY_ABSENT 0xffff
#define ZB_PY_FRAMES 64
#define ZB_PY_SELVES 12
#define ZB_PY_NAME 256
#define ZB_PY_FILE 1024
#define ZB_PY_TABLE 16384
/* of a line table that tell it from another at the same address: its beginning and end */
#define ZB_TABLE_WORDS 32
#define ZB_TABLE_END_WORDS 8
#define ZB_MIXED_WORDS 8 /* at a time */

/* zombiebpf/python/offsets.py, Offsets: the same names in the same order */
struct py_layout {
	u16 interpreters_head;
	u16 interp_next;
	u16 threads_head;
	u16 tstate_next;
	u16 thread_id;
	u16 tstate_frame;
	u16 cframe_frame; /* absent: tstate_frame is the frame itself */
	u16 frame_code;
	u16 frame_previous;
	u16 frame_lasti;
	u16 frame_owner;
	u16 frame_locals;
	u16 code_firstlineno;
	u16 code_filename;
	u16 code_name;
	u16 code_table;
	u16 code_adaptive; /* absent: frame_lasti is a number, else an address */
	u16 lasti_scale;
	u16 code_version;
	u16 unicode_ascii;
	u16 unicode_compact;
	u16 tss_key;
	u16 owner_skip;
	u16 minor;
};

/* A process that runs CPython; the key is the kernel's tgid. */
struct py_process {
	u64 runtime; /* address of _PyRuntime */
	u64 code_type; /* address of PyCode_Type */
	u64 str_type; /* of PyUnicode_Type */
	u64 bytes_type; /* of PyBytes_Type */
	u64 lineage; /* of an address space and its forks */
	u64 own; /* of this process alone */
	u32 layout; /* index in `layouts` */
	u32 forked; /* it has, or had, children */
	u64 forker_thread; /* pthread_self() of the thread that forked it; 0: not known */
};

/* An interpreter's binary, recognised by the code of its Py_InitializeFromConfig. */
struct py_template {
	s64 runtime; /* from that function's address */
	s64 code_type;
	s64 str_type;
	s64 bytes_type;
	u32 layout;
	u32 unused;
};

enum zb_py_kind {
	ZB_PY_STACK = 1,
	ZB_PY_CODE = 2,
};

struct zb_frame {
	u64 code;
	u64 check;
	s32 lasti; /* bytes; -1: not begun */
	u32 unused;
};

struct zb_py_stack {
	u32 kind;
	u32 depth;
	u64 stack_id;
	u32 lineage;
	u32 problem;
	/* innermost first; depth of them are sent */
	struct zb_frame frames[ZB_PY_FRAMES];
};

struct zb_py_code {
	u32 kind;
	u32 lineage;
	u64 code;
	u64 check;
	u32 firstlineno;
	u32 minor;
	u32 name_length; /* characters of name_kind bytes each */
	u32 name_kind;
	u32 file_length;
	u32 file_kind;
	u32 table_length;
	u32 table_sent;
	char name[ZB_PY_NAME];
	char file[ZB_PY_FILE];
	char table[ZB_PY_TABLE]; /* table_sent of them */
};

#endif
