/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system call a thread stands in, from the registers it entered the kernel
 * with. They lie at the top of its kernel stack, so no syscall tracepoint is
 * needed, which would slow every system call of the machine.
 */

struct call {
	s32 number; /* -1: unknown */
	s32 options;
	s32 target;
};

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define SYS_WAIT4 61
#define SYS_WAITID 247
#define USER_CS 0x33 /* arch/x86/include/asm/segment.h, __USER_CS: not compat */
#define USER_SS 0x2b

struct entry_regs { /* struct pt_regs of arch/x86/include/asm/ptrace.h, an ABI */
	u64 r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	u64 orig_ax, ip, cs, flags, sp, ss;
};

static __always_inline bool read_regs(u64 top, struct entry_regs *regs)
{
	bpf_probe_read_kernel(regs, sizeof(*regs),
			      (const void *)(top - sizeof(*regs)));
	return (regs->cs & 0xffff) == USER_CS && (regs->ss & 0xffff) == USER_SS;
}

static __always_inline struct call call_of(struct task_struct *task)
{
	struct call call = { -1, -1, 0 };
	u64 top = READ(u64, &task->stack) + THREAD_SIZE_BYTES;
	struct entry_regs regs = {};

	/* CONFIG_X86_FRED leaves two words above them: commit 65c9cc9e2c14
	 * ("x86/fred: Reserve space for the FRED stack frame") */
	if (!read_regs(top, &regs) && !read_regs(top - 16, &regs))
		return call;
	call.number = regs.orig_ax;
	if (call.number == SYS_WAIT4) {
		call.target = regs.di;
		call.options = regs.dx;
	} else if (call.number == SYS_WAITID) {
		call.target = regs.si;
		call.options = regs.r10;
	}
	return call;
}
#else
#define SYS_WAIT4 260 /* include/uapi/asm-generic/unistd.h */
#define SYS_WAITID 95

static __always_inline struct call call_of(struct task_struct *task)
{
	struct call call = { -1, -1, 0 };

	return call;
}
#endif
