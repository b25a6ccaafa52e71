/*
 * Under systemd, the generator's drop-ins set user, groups and runtime directory before this
 * program runs. Under a launcher of root, the program does so itself: it opens what needs root (a
 * TAP, a socket in a VMM's directory), and changes to its own user before it reads its first
 * hostile byte. Under a launcher of an ordinary user all processes run as that user, and a peer is
 * only known to belong to that user.
 *
 * The runtime directory may lie below one that only root can search (mktemp -d makes such). The
 * process opens it as root, and later reaches its sockets through that descriptor
 * (/proc/self/fd/N/...).
 */
#include "proc/identity.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "config/groups.h"
#include "config/user.h"

/* Its row in the table of processes. */
static const struct role *row_of(const struct proc *proc)
{
	const struct role *row = role_find(proc->role->name);

	check(row);
	return row;
}

/* --- Directories --- */

static int fail_directory(const char *path, int r)
{
	log_error("cannot use the directory %s: %s", path, strerror(-r));
	return r;
}

/* By descriptor: somebody who can write to the parent must not be able to redirect the chown. */
static int own_directory(const char *path, uid_t user, mode_t mode)
{
	_cleanup_close_ int fd = -1;

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return fail_directory(path, -errno);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchown(fd, user, user) < 0 || fchmod(fd, mode) < 0)
		return fail_directory(path, -errno);
	return 0;
}

char *identity_folder(const struct proc *proc)
{
	char *path;

	check(asprintf(&path, "%s/%s", proc->runtime_base ?: proc->runtime_dir,
		      row_of(proc)->folder ?: proc->peer) >= 0);
	return path;
}

/* The peers search memory's directory; memory, as a member of their groups, searches theirs. */
static int make_own(const struct proc *proc)
{
	const struct role *row = row_of(proc);
	_cleanup_free_ char *path = identity_folder(proc);

	if (geteuid() == 0)
		return own_directory(path, user_of(proc->guest, proc->peer), row->folder_mode);
	if (mkdir(path, row->folder_mode) < 0 && errno != EEXIST)
		return fail_directory(path, -errno);
	return 0;
}

/* The launcher's notification socket may lie in the runtime directory, too. */
static void keep_way_to_notify(const struct proc *proc)
{
	const char *path = getenv("NOTIFY_SOCKET");
	size_t n = strlen(proc->runtime_dir);
	_cleanup_free_ char *kept = NULL;

	if (!path || strncmp(path, proc->runtime_dir, n) != 0 || path[n] != '/')
		return;
	check(asprintf(&kept, "%s%s", proc->runtime_base, path + n) >= 0);
	check(setenv("NOTIFY_SOCKET", kept, 1) == 0);
}

/* The descriptor stays open for the process's life. */
static int keep_way(struct proc *proc)
{
	int fd = open(proc->runtime_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return fail_directory(proc->runtime_dir, -errno);
	free((char *)proc->runtime_base);
	check(asprintf((char **)&proc->runtime_base, "/proc/self/fd/%d", fd) >= 0);
	keep_way_to_notify(proc);
	return 0;
}

static int make_directories(struct proc *proc)
{
	int r;

	(void)mkdir(BULKHEAD_RUNDIR, 0755);
	if (geteuid() == 0) {
		r = own_directory(proc->runtime_dir, 0, 0755);
		if (r == 0)
			r = make_own(proc);
		return r < 0 ? r : keep_way(proc);
	}
	if (mkdir(proc->runtime_dir, 0755) < 0 && errno != EEXIST)
		return fail_directory(proc->runtime_dir, -errno);
	return make_own(proc);
}

int identity_prepare(struct proc *proc)
{
	mode_t former = umask(0022); /* others may search the directories */
	uid_t user = user_of(proc->guest, proc->peer);
	int r;

	proc->by_root = geteuid() == 0;
	proc->separate = proc->by_root || geteuid() == user;
	r = make_directories(proc);
	(void)umask(former);
	return r;
}

uid_t proc_user(const struct proc *proc, const char *peer)
{
	return proc->separate ? user_of(proc->guest, peer) : geteuid();
}

/* --- Changing the user --- */

/* A change of user clears the parent-death signal and the dumpable flag. */
static int keep_death(int signal, pid_t parent)
{
	if (prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, signal, 0, 0, 0) < 0)
		return -errno;
	if (signal && getppid() != parent)
		(void)raise(signal);
	return 0;
}

static int become(const struct proc *proc, uid_t user)
{
	gid_t groups[PROC_GROUPS_MAX];
	size_t n = groups_of(row_of(proc), proc->config, groups);
	pid_t parent = getppid();
	int signal = 0;

	(void)prctl(PR_GET_PDEATHSIG, &signal, 0, 0, 0);
	if (setgroups(n, groups) < 0 || setresgid(user, user, user) < 0 ||
		setresuid(user, user, user) < 0)
		return -errno;
	return keep_death(signal, parent);
}

int identity_take(const struct proc *proc)
{
	uid_t user = user_of(proc->guest, proc->peer);
	int r;

	if (geteuid() != 0)
		return 0;
	r = become(proc, user);
	if (r < 0)
		log_error("cannot change to user %u, the user of this process: %s; if root may not use every "
			  "user ID (in a container), start the launcher as an ordinary user",
			user, strerror(-r));
	return r;
}

/* --- Paths --- */

static char *path_of(const struct proc *proc, const char *folder, const char *name)
{
	char *path;

	check(asprintf(&path, "%s/%s/%s.sock", proc->runtime_base ?: proc->runtime_dir, folder,
		      name) >= 0);
	return path;
}

char *proc_link_path(const struct proc *proc, const char *peer)
{
	return path_of(proc, "link", peer);
}

char *proc_bus_path(const struct proc *proc, const char *peer)
{
	return path_of(proc, peer, "bus");
}

char *proc_ctl_path(const struct proc *proc)
{
	return path_of(proc, "link", "ctl");
}

char *proc_ctl_link_path(const struct proc *proc)
{
	return path_of(proc, "link", "ctl+link");
}
