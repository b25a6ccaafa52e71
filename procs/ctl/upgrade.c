/*
 * A process is upgraded by terminating it. It finishes its current work, and its service manager
 * (systemd or the launcher) starts the installed program with everything that was stored. Whether
 * the new program can be executed is checked first. If a worker has a hot standby, the standby is
 * replaced first; terminating the active one is then a failover.
 */
#include "upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/program.h"
#include "bus/bus.h"
#include "check.h"
#include "config/roles.h"
#include "query.h"

#define LAUNCHER_MS 10000 /* it tests its new program first */
#define WAIT_MS 30000
#define POLL_MS 10
#define ASK_MS 500 /* a terminating memory manager does not reply */
#define PEERS_MAX 256
#define NAME_BYTES 128

/** struct peer - a process, as reported in the status */
struct peer {
	char name[NAME_BYTES];
	char role[NAME_BYTES];
	pid_t pid;
	bool standby;
	uint64_t reports;  /* number of its device's reports */
	uint64_t pause_us; /* of its device */
	uint64_t there_us; /* how long it has been connected */
};

struct snapshot {
	struct peer peers[PEERS_MAX];
	size_t n_peers;
};

static void nap(void)
{
	const struct timespec step = { .tv_nsec = POLL_MS * 1000000L };

	nanosleep(&step, NULL);
}

/* --- Running processes --- */

static bool is_of(const char *peer, const char *device)
{
	size_t n = strlen(device);

	return strncmp(peer, device, n) == 0 && (!peer[n] || strcmp(peer + n, PEER_STANDBY) == 0);
}

static void take_snapshot(const Bh__GetStatusReply *status, void *data)
{
	struct snapshot *snapshot = data;

	snapshot->n_peers = MIN(status->n_peers, (size_t)PEERS_MAX);
	for (size_t i = 0; i < snapshot->n_peers; i++) {
		const Bh__PeerStatus *from = status->peers[i];
		struct peer *peer = &snapshot->peers[i];

		*peer = (struct peer){ .pid = (pid_t)from->pid,
			.standby = from->standby,
			.there_us = from->connected_ms * 1000 };
		snprintf(peer->name, sizeof(peer->name), "%s", from->name);
		snprintf(peer->role, sizeof(peer->role), "%s", from->role);
		for (size_t j = 0; j < status->n_devices; j++) {
			const Bh__DeviceStatus *device = status->devices[j];

			if (!is_of(peer->name, device->name))
				continue;
			peer->reports = device->observed ? device->observed->generation : 0;
			peer->pause_us = device->pause_us;
		}
	}
}

static const struct peer *find(const struct snapshot *snapshot, const char *name)
{
	for (size_t i = 0; i < snapshot->n_peers; i++)
		if (strcmp(snapshot->peers[i].name, name) == 0)
			return &snapshot->peers[i];
	return NULL;
}

/* --- One process --- */

static int fail(const char *guest, const char *name, int r, const char *why)
{
	fprintf(stderr, "%s:%s: not upgraded: %s\n", guest, name, why);
	return r;
}

/* The path that the service manager executes: the first word of the command line. */
static int find_program(pid_t pid, const char *role, char *path, size_t n)
{
	char name[NAME_BYTES + 16];
	_cleanup_close_ int fd = -1;
	ssize_t got;
	int at;

	snprintf(path, n, "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	at = snprintf(path, n, "/proc/%d/cwd/", pid);
	got = fd < 0 ? -1 : read(fd, path + at, n - (size_t)at - 1);
	if (got <= 0)
		return -ESRCH;
	path[at + got] = '\0';
	if (path[at] == '/')
		memmove(path, path + at, strlen(path + at) + 1);
	snprintf(name, sizeof(name), "/bulkhead-%s", role);
	return strlen(path) > strlen(name) && strcmp(path + strlen(path) - strlen(name), name) == 0
		? 0
		: -ESRCH;
}

static int probe(pid_t pid, const char *role)
{
	char path[PATH_MAX];
	int r = find_program(pid, role, path, sizeof(path));

	return r < 0 ? r : program_probe(path, "--version");
}

static int check_program(const char *guest, const struct peer *peer)
{
	int r = probe(peer->pid, peer->role);

	if (r == -ESRCH)
		return fail(guest, peer->name, r,
			"its process is not visible from here; run this in its PID namespace");
	if (r == -ENOEXEC)
		return fail(guest, peer->name, r,
			"the program that is installed now cannot be run; nothing has changed");
	return r < 0 ? fail(guest, peer->name, r, strerror(-r)) : 0;
}

/* Whether another process has connected in its place, in the same role: active or standby. */
static bool is_replaced(const struct snapshot *now, const struct peer *old)
{
	const struct peer *peer = find(now, old->name);

	if (!peer || peer->pid == 0 || peer->pid == old->pid)
		return false;
	if (old->standby)
		return peer->standby;
	return old->reports == 0 || peer->reports > old->reports;
}

static int wait_replaced(const char *runtime_dir, const char *guest, const struct peer *old,
	struct snapshot *ret_now)
{
	uint64_t end = clock_us() + WAIT_MS * UINT64_C(1000);

	while (clock_us() < end) {
		if (query_status(runtime_dir, guest, ASK_MS, take_snapshot, ret_now) == 0 &&
			is_replaced(ret_now, old))
			return 0;
		nap();
	}
	return -ETIMEDOUT;
}

static void say(const char *guest, const struct peer *old, const struct peer *new, uint64_t took_us)
{
	uint64_t pause_us = old->standby ? 0 : new->pause_us ?: took_us;

	printf("%s:%s pid %d -> %d", guest, old->name, old->pid, new->pid);
	if (old->standby)
		printf(", stood by");
	else
		printf(", %s for %" PRIu64 ".%03" PRIu64 " ms",
			old->reports ? "rings not served" : "away", pause_us / 1000,
			pause_us % 1000);
	printf("\n");
}

/* After a restart the memory manager may not be connected to all peers yet. */
static int look_at(const char *runtime_dir, const char *guest, const char *name,
	struct snapshot *ret)
{
	uint64_t end = clock_us() + BUS_TIMEOUT_MS * UINT64_C(1000);
	int r;

	for (;;) {
		const struct peer *peer;

		r = query_status(runtime_dir, guest, BUS_TIMEOUT_MS, take_snapshot, ret);
		peer = r == 0 ? find(ret, name) : NULL;
		if (r < 0 || !peer || peer->pid || clock_us() > end)
			return r;
		nap();
	}
}

/* Processes replaced earlier have read the guest's file again, so this one may no longer be in
 * it. */
static int replace(const char *runtime_dir, const char *guest, const char *name)
{
	struct snapshot before, now;
	const struct peer *old, *new;
	uint64_t start, took_us;
	int r = look_at(runtime_dir, guest, name, &before);

	if (r < 0)
		return fail(guest, name, r, "no answer from the memory manager");
	old = find(&before, name);
	if (!old) {
		printf("%s:%s is no longer in the guest's file\n", guest, name);
		return 0;
	}
	if (old->pid == 0)
		return fail(guest, old->name, -ESRCH, "it does not run now");
	r = check_program(guest, old);
	if (r < 0)
		return r;
	start = clock_us();
	if (kill(old->pid, SIGTERM) < 0)
		return fail(guest, old->name, -errno, strerror(errno));
	r = wait_replaced(runtime_dir, guest, old, &now);
	if (r < 0)
		return fail(guest, old->name, r, "no new process within 30 s; see its log");
	took_us = clock_us() - start;
	new = find(&now, old->name);
	/* it connected some time before this was noticed */
	say(guest, old, new, took_us - MIN(took_us, new->there_us));
	return 0;
}

/* --- From a release without a user per process --- */

static bool all_replaced(const struct snapshot *now, const struct snapshot *before)
{
	for (size_t i = 0; i < before->n_peers; i++) {
		const struct peer *peer = find(now, before->peers[i].name);

		if (!peer || peer->pid == 0 || peer->pid == before->peers[i].pid)
			return false;
	}
	return true;
}

static int end_all(const char *guest, const struct snapshot *before)
{
	for (size_t i = 0; i < before->n_peers; i++) {
		const struct peer *peer = &before->peers[i];
		int r = peer->pid ? check_program(guest, peer) : 0;

		if (r < 0)
			return r;
	}
	for (size_t i = 0; i < before->n_peers; i++)
		if (before->peers[i].pid && kill(before->peers[i].pid, SIGTERM) < 0 &&
			errno != ESRCH)
			return fail(guest, before->peers[i].name, -errno, strerror(errno));
	return 0;
}

/* Old processes cannot access what new ones create, so all must be replaced together. */
static int replace_all(const char *runtime_dir, const char *guest, const struct snapshot *before)
{
	uint64_t start = clock_us(), end = start + WAIT_MS * UINT64_C(1000);
	int r = end_all(guest, before);

	if (r < 0)
		return r;
	while (clock_us() < end) {
		struct snapshot now = { .n_peers = 0 };

		if (query_status(runtime_dir, guest, ASK_MS, take_snapshot, &now) == 0 &&
			all_replaced(&now, before)) {
			printf("%s: all %zu processes replaced at once, from a release whose guests shared their users, "
			       "within %" PRIu64 " ms\n",
				guest, before->n_peers, (clock_us() - start) / 1000);
			return 0;
		}
		nap();
	}
	return fail(guest, "memory", -ETIMEDOUT,
		"not all processes are back within 30 s; see their logs (under systemd, run systemctl daemon-reload first)");
}

/* --- The launcher --- */

/* A number in the lock file: the launcher's pid (0), or how often it has executed itself (1). */
static long lock_number(const char *runtime_dir, const char *guest, int i)
{
	_cleanup_free_ char *path = NULL;
	long numbers[2] = { 0, 0 };
	FILE *f;

	check(asprintf(&path, "%s/%s/lock", runtime_dir, guest) >= 0);
	f = fopen(path, "re");
	if (!f)
		return 0;
	if (fscanf(f, "%ld %ld", &numbers[0], &numbers[1]) != 2)
		numbers[0] = numbers[1] = 0;
	fclose(f);
	return numbers[i];
}

/* The launcher checks whether the program can be executed, and carries on if not. */
static int replace_launcher(const char *runtime_dir, const char *guest)
{
	pid_t pid = (pid_t)lock_number(runtime_dir, guest, 0);
	long before = lock_number(runtime_dir, guest, 1);
	uint64_t end = clock_us() + LAUNCHER_MS * UINT64_C(1000);

	if (kill(pid, SIGHUP) < 0)
		return fail(guest, "launcher", -errno, strerror(errno));
	while (clock_us() < end) {
		if (lock_number(runtime_dir, guest, 1) != before) {
			printf("%s:launcher pid %d\n", guest, pid);
			return 0;
		}
		nap();
	}
	return fail(guest, "launcher", -ETIMEDOUT, "it was not replaced; see its log");
}

/* --- All processes --- */

static int replace_some(const char *runtime_dir, const char *guest, const char *process)
{
	bool known = false, former = query_answers(runtime_dir, guest) == ANSWERS_FORMER;
	struct snapshot at_first;
	int r = query_status(runtime_dir, guest, BUS_TIMEOUT_MS, take_snapshot, &at_first);

	if (r < 0)
		return fail(guest, "memory", r, query_why(r));
	if (former && process)
		return fail(guest, process, -EBUSY,
			"the guest is served by a release whose processes can only be replaced "
			"together; upgrade the whole guest");
	if (former)
		return replace_all(runtime_dir, guest, &at_first);
	for (int standby = 1; r == 0 && standby >= 0; standby--)
		for (size_t i = 0; r == 0 && i < at_first.n_peers; i++) {
			const struct peer *peer = &at_first.peers[i];

			if (peer->standby != (standby == 1) ||
				(process && !is_of(peer->name, process)))
				continue;
			known = true;
			r = replace(runtime_dir, guest, peer->name);
		}
	return r == 0 && !known ? fail(guest, process, -ENOENT, "this guest has no such process")
				: r;
}

bool upgrade_is_launched(const char *runtime_dir, const char *guest)
{
	long pid = lock_number(runtime_dir, guest, 0);

	return pid > 0 && (kill((pid_t)pid, 0) == 0 || errno == EPERM);
}

int upgrade_replace(const char *runtime_dir, const char *which)
{
	_cleanup_free_ char *guest = strdup(which);
	char *process = strchr(guest, ':');
	int r = 0;

	check(guest);
	if (process)
		*process++ = '\0';
	if (process && strcmp(process, "launcher") == 0)
		return lock_number(runtime_dir, guest, 0) > 0
			? replace_launcher(runtime_dir, guest)
			: fail(guest, "launcher", -ESRCH, "no launcher serves this guest");
	if (!process && lock_number(runtime_dir, guest, 0) > 0)
		r = replace_launcher(runtime_dir, guest);
	return r < 0 ? r : replace_some(runtime_dir, guest, process);
}

int upgrade_run(const char *runtime_dir, const char *which)
{
	_cleanup_free_ char *guest = strndup(which, strcspn(which, ":"));
	int r;

	check(guest);
	r = check_before_upgrade(runtime_dir, guest);
	return r < 0 ? r : upgrade_replace(runtime_dir, which);
}
