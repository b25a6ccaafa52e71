/*
 * Why a TAP cannot be opened. Root can see more than the worker's own user: who holds the
 * interface, and in which network namespace it is.
 */
#include "tap.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/cleanup.h"
#include "base/log.h"

#define NAMED_NETNS "/run/netns"
#define NETNS_MAX 64 /* that are looked into */
#define TUN_MINOR 200

/* --- Who holds it --- */

/* Whether this descriptor is a queue of that interface (drivers/net/tun.c writes "iff:"). */
static bool is_queue(pid_t pid, const char *fd, const char *name)
{
	char path[64], line[128], found[64];
	bool is = false;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/fdinfo/%.16s", pid, fd);
	f = fopen(path, "re");
	while (f && !is && fgets(line, sizeof(line), f))
		is = sscanf(line, "iff: %63s", found) == 1 && strcmp(found, name) == 0;
	if (f)
		fclose(f);
	return is;
}

/* Not by its path, which depends on where the other process has its /dev. A file system that does
 * not answer is not waited for. */
static bool is_tun(DIR *fds, const char *fd)
{
	struct statx st;

	return statx(dirfd(fds), fd, AT_STATX_DONT_SYNC, STATX_TYPE, &st) == 0 &&
		S_ISCHR(st.stx_mode) && st.stx_rdev_major == MISC_MAJOR &&
		st.stx_rdev_minor == TUN_MINOR;
}

static bool holds(pid_t pid, const char *name)
{
	char path[64];
	struct dirent *entry;
	bool found = false;
	DIR *fds;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	fds = opendir(path);
	while (fds && !found && (entry = readdir(fds)))
		found = is_tun(fds, entry->d_name) && is_queue(pid, entry->d_name, name);
	if (fds)
		closedir(fds);
	return found;
}

static bool is_in_our_netns(pid_t pid)
{
	struct stat theirs, ours;
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	return stat(path, &theirs) == 0 && stat("/proc/self/ns/net", &ours) == 0 &&
		theirs.st_ino == ours.st_ino;
}

/* Bulkhead's own processes hold descriptors for each other; the worker is the one to name. */
static bool is_keeper(const char *program)
{
	return *program == '(' || strcmp(program, "bulkhead-memory") == 0;
}

static void read_line(pid_t pid, const char *file, char *buf, size_t n)
{
	char path[64];
	FILE *f;

	*buf = '\0';
	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	f = fopen(path, "re");
	n = f ? fread(buf, 1, n - 1, f) : 0;
	buf[n] = '\0';
	if (f)
		fclose(f);
	for (size_t i = 0; i < n; i++)
		if (buf[i] == '\n' || buf[i] == '\0')
			buf[i] = i + 1 < n ? ' ' : '\0';
}

/* 0 = we may not look, or nobody does. */
static pid_t find_holder(const char *name, char *program, size_t n)
{
	DIR *processes = opendir("/proc");
	struct dirent *entry;
	pid_t holder = 0;

	while (processes && (!holder || is_keeper(program)) && (entry = readdir(processes))) {
		pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);

		if (pid <= 0 || pid == getpid() || !is_in_our_netns(pid) || !holds(pid, name))
			continue;
		holder = pid;
		read_line(pid, "comm", program, n);
	}
	if (processes)
		closedir(processes);
	return holder;
}

/* Which guest's it is, if it is a worker. */
static void describe_guest(pid_t pid, char *buf, size_t n)
{
	static const char option[] = " --instance=";
	char line[512], *instance;

	read_line(pid, "cmdline", line, sizeof(line));
	instance = strstr(line, option);
	*buf = '\0';
	if (!instance)
		return;
	instance += strlen(option);
	snprintf(buf, n, " of %.*s", (int)strcspn(instance, " "), instance);
}

static void explain_busy(const char *name)
{
	char program[32] = "", guest[160] = "";
	pid_t holder = find_holder(name, program, sizeof(program));

	if (holder)
		describe_guest(holder, guest, sizeof(guest));
	if (holder)
		log_error("tap '%s' is in use by %s%s (pid %d); stop it, or give this device another tap",
			name, program, guest, holder);
	else
		log_error("tap '%s' is in use by another process; stop it, or give this device another tap",
			name);
}

/* --- Where it is --- */

/* In the forked process: whether the interface is in that namespace. Nothing else of it is used. */
__attribute__((noreturn)) static void look_into(int netns, const char *name)
{
	struct ifreq ifr = { 0 };
	int sock;

	memcpy(ifr.ifr_name, name, IFNAMSIZ);
	sock = setns(netns, CLONE_NEWNET) < 0 ? -1 : socket(AF_UNIX, SOCK_DGRAM, 0);
	_exit(sock >= 0 && ioctl(sock, SIOCGIFINDEX, &ifr) == 0 ? 0 : 1);
}

static bool is_there(const char *path, const char *name)
{
	_cleanup_close_ int netns = open(path, O_RDONLY | O_CLOEXEC);
	int status = -1;
	pid_t pid = netns < 0 ? -1 : fork();

	if (pid == 0)
		look_into(netns, name);
	return pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
		WEXITSTATUS(status) == 0;
}

/* The name of the namespace; false: in none, or we may not look: only root may, before its rights
 * are dropped. */
static bool find_netns(const char *name, char *buf, size_t n)
{
	DIR *dir = geteuid() == 0 ? opendir(NAMED_NETNS) : NULL;
	struct dirent *entry;
	bool found = false;
	int n_looked = 0;

	while (dir && !found && n_looked < NETNS_MAX && (entry = readdir(dir))) {
		snprintf(buf, n, NAMED_NETNS "/%s", entry->d_name);
		if (*entry->d_name == '.')
			continue;
		n_looked++;
		found = is_there(buf, name);
	}
	if (dir)
		closedir(dir);
	if (!found && geteuid() == 0 && !is_in_our_netns(1)) {
		snprintf(buf, n, "/proc/1/ns/net");
		found = is_there(buf, name);
	}
	return found;
}

static void explain_missing(const struct net *net, const char *name)
{
	char netns[300];

	if (find_netns(name, netns, sizeof(netns)))
		log_error("tap '%s' is in another network namespace, %s; move it into ours (ip link set %s netns %d), or start us there",
			name, netns, name, getpid());
	else
		log_error("tap '%s' does not exist in our network namespace; create it: ip tuntap add dev %s mode tap vnet_hdr%s user %u",
			name, name, net->n_pairs > 1 ? " multi_queue" : "",
			proc_user(net->device->proc, net->device->proc->peer));
}

/* --- All reasons --- */

void tap_queues_explain(const struct net *net, int r)
{
	const struct tap *tap = net->backend_data;
	const char *name = tap->configured;

	if (r == -ENODEV)
		explain_missing(net, name);
	else if (r == -EBUSY)
		explain_busy(name);
	else if (r == -EINVAL && net->n_pairs > 1)
		log_error("tap '%s' has a single queue, and queue-pairs is %u; create it again with multi_queue",
			name, net->n_pairs);
	else if (r == -EINVAL)
		log_error("'%s' is not a tap interface, or was created without vnet_hdr; create it: ip tuntap add dev NAME mode tap vnet_hdr",
			name);
	else if (r == -EPERM)
		log_error("tap '%s' belongs to another user; create it with 'user %u', or start us with CAP_NET_ADMIN",
			name, geteuid());
	else if (r == -ENOENT)
		log_error("tap '%s': /dev/net/tun does not exist; load the module: modprobe tun",
			name);
	else
		log_error("tap '%s': user %u cannot use /dev/net/tun: %s", name, geteuid(),
			strerror(-r));
}
