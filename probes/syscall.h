/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The system call a thread stands in, from the registers it entered the kernel
 * with. They lie at the top of its kernel stack, so no syscall tracepoint is
 * needed, which would slow every system call of the machine.
 */

struct call {
	s32 number; /* -1: unknown */
	s32 options;
	s32 target; /* a PID, or -1: any child; below and 0: others */
};

#define P_ALL 0 /* include/uapi/linux/wait.h */
#define P_PID 1

struct arguments {
	s32 number; /* -1: unknown */
	u64 first, second, third, fourth;
};

#if defined(__TARGET_ARCH_x86) || defined(__x86_64__)
#define SYS_WAIT4 61
#define SYS_WAITID 247
#define SYS_READ 0
#define SYS_POLL 7
#define SYS_PPOLL 271
#define SYS_EPOLL_WAIT 232
#define SYS_EPOLL_PWAIT 281
#define SYS_NANOSLEEP 35
#define SYS_FUTEX 202
#define USER_CS 0x33 /* arch/x86/include/asm/segment.h, __USER_CS: not compat */
#define USER_SS 0x2b

#define USER_IP(ctx) (((struct entry_regs *)(ctx))->ip)
#define KPROBE_FIRST(ctx) (((struct entry_regs *)(ctx))->di)
#define KPROBE_SECOND(ctx) (((struct entry_regs *)(ctx))->si)

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

static __always_inline struct arguments arguments_of(struct task_struct *task)
{
	struct arguments given = { -1, 0, 0, 0, 0 };
	u64 top = READ(u64, &task->stack) + THREAD_SIZE_BYTES;
	struct entry_regs regs = {};

	/* CONFIG_X86_FRED leaves two words above them: commit 65c9cc9e2c14
	 * ("x86/fred: Reserve space for the FRED stack frame") */
	if (!read_regs(top, &regs) && !read_regs(top - 16, &regs))
		return given;
	given.number = regs.orig_ax;
	given.first = regs.di;
	given.second = regs.si;
	given.third = regs.dx;
	given.fourth = regs.r10;
	return given;
}
#else
#define SYS_WAIT4 260 /* include/uapi/asm-generic/unistd.h */
#define SYS_WAITID 95
#define SYS_READ 63
#define SYS_PPOLL 73
#define SYS_EPOLL_PWAIT 22
#define SYS_NANOSLEEP 101
#define SYS_FUTEX 98
#define PSR_USER_64 0 /* arch/arm64/include/uapi/asm/ptrace.h, PSR_MODE_EL0t */
#define PSR_MODE 0x1f
#define USER_ADDRESS_BITS 52

#define USER_IP(ctx) (((struct pt_regs *)(ctx))->pc)
#define KPROBE_FIRST(ctx) READ(u64, &((struct pt_regs *)(ctx))->regs[0])
#define KPROBE_SECOND(ctx) READ(u64, &((struct pt_regs *)(ctx))->regs[1])

/* struct pt_regs differs from kernel to kernel, so it is BTF's (layout.py) */
static __always_inline struct arguments arguments_of(struct task_struct *task)
{
	struct arguments given = { -1, 0, 0, 0, 0 };
	u64 top = READ(u64, &task->stack) + THREAD_SIZE_BYTES;
	struct pt_regs *regs = (struct pt_regs *)top - 1;

	u64 pc = READ(u64, &regs->pc);

	/* the mode's number is 0: memory without registers may have that, too */
	if ((READ(u64, &regs->pstate) & PSR_MODE) != PSR_USER_64 || !pc ||
	    pc >> USER_ADDRESS_BITS)
		return given;
	given.number = READ(s32, &regs->syscallno);
	given.first = READ(u64, &regs->orig_x0); /* x0 is the result, too */
	given.second = READ(u64, &regs->regs[1]);
	given.third = READ(u64, &regs->regs[2]);
	given.fourth = READ(u64, &regs->regs[3]);
	return given;
}
#endif

static __always_inline struct call call_of(struct task_struct *task)
{
	struct arguments given = arguments_of(task);
	struct call call = { given.number, -1, 0 };

	if (given.number == SYS_WAIT4) {
		call.target = given.first;
		call.options = given.third;
	} else if (given.number == SYS_WAITID) {
		call.target = given.first == P_PID   ? given.second
			      : given.first == P_ALL ? -1
						     : 0;
		call.options = given.fourth;
	}
	return call;
}

/*
 * A program at the entry of a kernel's function: a kprobe gets the registers as
 * they are there, fentry the arguments. FENTRY_NAME says which this kernel has.
 */
#define FUNCTION_PROBE(name) int on_##name(void *ctx)
#define FIRST_ARGUMENT(ctx, name)                                              \
	((struct task_struct *)(FENTRY_##name ? ((u64 *)(ctx))[0]              \
					      : KPROBE_FIRST(ctx)))
#define SECOND_ARGUMENT(ctx, name)                                             \
	((struct task_struct *)(FENTRY_##name ? ((u64 *)(ctx))[1]              \
					      : KPROBE_SECOND(ctx)))
