// SPDX-License-Identifier: GPL-2.0-only
/*
 * A new interpreter: a uprobe on Py_InitializeFromConfig() (3.8 and later; before,
 * on what comes next to it), which every CPython runs once before any Python code.
 * The binary is recognised by that function's own code, so that one program serves
 * all; its first bytes are the uprobe's breakpoint.
 */

#define START_BYTES 64
#define BREAKPOINT_BYTES 4 /* arm64's; x86_64's is 1 */
#define PAGE_OFFSET_BITS 0xfff

int on_python_start(struct pt_regs *ctx)
{
	struct thread thread = current_thread();
	struct life *life = life_of(&thread);
	u64 ip = USER_IP(ctx), code[START_BYTES / 8] = {};
	struct py_template *template;
	struct py_process py = {};
	u64 key;
	int zero = 0;
	u32 one = 1;

	if (!life ||
	    read_user(code, sizeof(code), (void *)(ip + BREAKPOINT_BYTES)))
		return 0;
	key = mix(0, ip & PAGE_OFFSET_BITS);
#pragma unroll
	for (int i = 0; i < START_BYTES / 8; i++)
		key = mix(key, code[i]);
	template = templates.lookup(&key);
	if (!template)
		return 0;
	py.runtime = ip + template->runtime;
	py.code_type = ip + template->code_type;
	py.str_type = ip + template->str_type;
	py.bytes_type = ip + template->bytes_type;
	py.layout = template->layout;
	py.lineage = bpf_ktime_get_ns();
	py.own = py.lineage;
	any_python.update(&zero, &one);
	if (pythons.update(&thread.tgid, &py))
		count_lost(ZB_LOST_TABLE_FULL);
	return 0;
}
