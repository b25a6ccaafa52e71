/*
 * libseccomp compiles the rows of syscalls.def that concern a role. The kernel looks up calls that
 * are allowed with any argument in a bitmap, so the list costs the data path nothing.
 */
#include "proc/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if_tun.h>
#include <linux/sockios.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/log.h"
#include "base/sanitizer.h"
#include "config/roles.h"

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (SIOCPROTOPRIVATE + 0)
#endif

/* --- The table --- */

enum {
#define PROCESS(name, ...) SLOT_##name,
#define DEVICE(name, ...) SLOT_##name,
#include "config/roles.def"
#undef DEVICE
#undef PROCESS
	SLOT_KEEPER,
};

#define IN(name) (1U << SLOT_##name)
#define KEEPER (1U << SLOT_KEEPER)
#define ALL ((1U << (SLOT_KEEPER + 1)) - 1)

static const unsigned int WORKERS = 0
#define PROCESS(name, ...)
#define DEVICE(name, ...) | IN(name)
#include "config/roles.def"
#undef DEVICE
#undef PROCESS
	;

/* The kernel looks at 32 bits of such an argument, and a program may leave anything above them. */
#define ANY_BITS UINT32_MAX
#define SELF ((uint32_t)getpid())
#define NAMESPACES                                                                                 \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
		CLONE_NEWPID | CLONE_NEWNET)
#define FORK_FLAGS (uint32_t)(CLONE_CHILD_SETTID | CLONE_CHILD_CLEARTID)
#define IOCTL_TYPE 0xff00U
#define IOCTL_DMA_BUF ('b' << 8)
#define IOCTL_DRM ('d' << 8)

/** struct call - a row, see syscalls.def */
struct call {
	int number;
	unsigned int who;
	int error;  /* it fails with this; 0 = it is allowed */
	bool looks; /* at the argument */
	unsigned int argument;
	uint64_t mask, value;
};

/* --- The filter --- */

static int add_call(scmp_filter_ctx filter, const struct call *call)
{
	const struct scmp_arg_cmp condition =
		SCMP_CMP(call->argument, SCMP_CMP_MASKED_EQ, call->mask, call->value);
	uint32_t action = call->error ? SCMP_ACT_ERRNO((uint32_t)call->error) : SCMP_ACT_ALLOW;

	return seccomp_rule_add_array(filter, action, call->number, call->looks ? 1 : 0,
		call->looks ? &condition : NULL);
}

static int add_calls(scmp_filter_ctx filter, unsigned int slot)
{
	const struct call calls[] = {
#define CALL(name, who) { SCMP_SYS(name), who, 0, false, 0, 0, 0 },
#define CALL_IF(name, who, argument, mask, value)                                                  \
	{ SCMP_SYS(name), who, 0, true, argument, mask, value },
#define CALL_FAILS(name, error) { SCMP_SYS(name), ALL, error, false, 0, 0, 0 },
#include "proc/syscalls.def"
#undef CALL_FAILS
#undef CALL_IF
#undef CALL
	};
	int r = 0;

	for (size_t i = 0; i < ARRAY_SIZE(calls) && r == 0; i++)
		if (calls[i].who & 1U << slot)
			r = add_call(filter, &calls[i]);
	return r;
}

static int load(unsigned int slot, uint32_t otherwise)
{
	scmp_filter_ctx filter = seccomp_init(otherwise);
	int r = filter ? add_calls(filter, slot) : -ENOMEM;

	if (r == 0)
		r = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree */
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r;
}

/* --- Action and role --- */

static const struct {
	const char *name;
	uint32_t action;
} actions[] = {
	{ "refuse", SCMP_ACT_ERRNO(EPERM) },
	{ "kill",
		SCMP_ACT_TRAP }, /* the signal names the call; one that is blocked kills as well */
	{ "log", SCMP_ACT_LOG },
};

static int wanted_action(uint32_t *ret)
{
	const char *name = getenv("BULKHEAD_SYSCALLS");

	for (size_t i = 0; i < ARRAY_SIZE(actions); i++) {
		if (name && *name && strcmp(name, actions[i].name) != 0)
			continue;
		*ret = actions[i].action;
		return 0;
	}
	log_error("BULKHEAD_SYSCALLS=%s: must be refuse, kill or log", name);
	return -EINVAL;
}

static unsigned int slot_of(const char *name)
{
	unsigned int slot = 0;

	while (slot < N_ROLES && strcmp(roles[slot].name, name) != 0)
		slot++;
	return slot; /* behind them all: the keeper */
}

int sandbox_load(const char *role)
{
	uint32_t action;
	int r = wanted_action(&action);

	if (r < 0 || SANITIZES_ADDRESSES)
		return r;
	if (SANITIZES_THREADS)
		return 0;
	r = load(slot_of(role), action);
	if (r == -EINVAL || r == -ENOSYS) {
		log_warning(
			"this kernel has no system call filter (seccomp): the process may make any call");
		return 0;
	}
	if (r < 0)
		log_error("cannot load the list of system calls: %s", strerror(-r));
	return r;
}
