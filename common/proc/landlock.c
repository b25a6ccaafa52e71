/*
 * Rights to files that the kernel checks by path, in addition to owners and modes. The file systems
 * of memfds and pipes have no paths, and are not concerned. libc has no functions for it yet, and
 * Debian's headers have its first versions only.
 */
#include "proc/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/cleanup.h"
#include "base/log.h"

#define CREATE_RULESET_VERSION 1U
#define RULE_PATH_BENEATH 1

enum {
	FS_EXECUTE = 1 << 0,
	FS_WRITE_FILE = 1 << 1,
	FS_REMOVE_DIR = 1 << 4,
	FS_MAKE_CHAR = 1 << 6,
	FS_MAKE_DIR = 1 << 7,
	FS_MAKE_REG = 1 << 8,
	FS_MAKE_FIFO = 1 << 10,
	FS_MAKE_BLOCK = 1 << 11,
	FS_MAKE_SYM = 1 << 12,
	FS_TRUNCATE = 1 << 14,
	NET_BIND_TCP = 1 << 0,
	NET_CONNECT_TCP = 1 << 1,
	SCOPE_SIGNAL = 1 << 1,
};

/** struct ruleset - struct landlock_ruleset_attr of version 6 */
struct ruleset {
	uint64_t fs, net, scoped;
};

/** struct beneath - struct landlock_path_beneath_attr */
struct beneath {
	uint64_t allowed;
	int32_t parent_fd;
} __attribute__((packed));

/* Devices that are opened while the process serves. */
static const struct {
	const char *role, *path;
} devices[] = {
	{ "net", "/dev/net/tun" }, /* of a TAP that is made later */
};

int landlock_version(void)
{
	long r = syscall(SYS_landlock_create_ruleset, NULL, 0, CREATE_RULESET_VERSION);

	return r < 0 ? -errno : (int)r;
}

/* What the kernel's version knows. */
static int create(int version)
{
	struct ruleset ruleset = { .fs = FS_EXECUTE | FS_WRITE_FILE | FS_REMOVE_DIR | FS_MAKE_CHAR |
			FS_MAKE_DIR | FS_MAKE_REG | FS_MAKE_FIFO | FS_MAKE_BLOCK | FS_MAKE_SYM };

	if (version >= 3)
		ruleset.fs |= FS_TRUNCATE;
	if (version >= 4)
		ruleset.net = NET_BIND_TCP | NET_CONNECT_TCP;
	if (version >= 6)
		ruleset.scoped = SCOPE_SIGNAL;
	return (int)syscall(SYS_landlock_create_ruleset, &ruleset,
		version >= 6           ? sizeof(ruleset)
			: version >= 4 ? offsetof(struct ruleset, scoped)
				       : offsetof(struct ruleset, net),
		0);
}

static void allow(int ruleset, const char *path, uint64_t allowed)
{
	_cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);
	const struct beneath beneath = { .allowed = allowed, .parent_fd = fd };

	if (fd < 0 || syscall(SYS_landlock_add_rule, ruleset, RULE_PATH_BENEATH, &beneath, 0) < 0)
		log_debug("%s is not writable: %s", path, strerror(errno));
}

/* Faults on order are noted in a file that a test has made (base/fault.h). */
static void allow_faults(int ruleset)
{
#ifdef BULKHEAD_FAULT_POINTS
	const char *path = getenv("BULKHEAD_FAULTS"), *slash = path ? strrchr(path, '/') : NULL;
	_cleanup_free_ char *folder = slash ? strndup(path, (size_t)(slash - path)) : NULL;

	if (folder)
		allow(ruleset, folder, FS_WRITE_FILE);
#endif
}

void landlock_restrict(const char *role, const char *folder)
{
	int version = landlock_version();
	_cleanup_close_ int ruleset = version > 0 ? create(version) : -1;

	if (ruleset < 0)
		return;
	if (folder)
		allow(ruleset, folder,
			FS_WRITE_FILE | FS_MAKE_REG | (version >= 3 ? FS_TRUNCATE : 0));
	for (size_t i = 0; i < ARRAY_SIZE(devices); i++)
		if (strcmp(devices[i].role, role) == 0)
			allow(ruleset, devices[i].path, FS_WRITE_FILE);
	allow_faults(ruleset);
	if (syscall(SYS_landlock_restrict_self, ruleset, 0) < 0)
		log_warning("files cannot be restricted by landlock: %s", strerror(errno));
}
