/*
 * Starts and ends the product. Its processes are found in /proc: all descendants of the launcher,
 * named by their program without the "bulkhead-" prefix.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "config/roles.h"
#include "lib/patience.h"
#include "held.h"
#include "suite.h"

#define START_MS test_ms(10000)
#define STOP_MS test_ms(10000)
/* the kernel takes an inotify instance down when every process has left a file's critical section:
 * one that gets no processor there holds up all that die */
#define DIES_MS test_ms(60000)
#define SETTLE_MS test_ms(5000)
#define REST_MS 100
/* On a busy machine memory dials a peer again before the first attempt has come through. Both
 * connections stay, of 4 sockets each, at most BUS_DIALERS for a peer. */
#define SPARE_SOCKETS 48
#define LOG_MAX (1 << 20)

static int say(struct suite *s, int e, const char *what, const char *detail)
{
	if (e && !s->why[0])
		snprintf(s->why, sizeof(s->why), "%.120s: %.250s", what, detail);
	return e;
}

const char *suite_socket(const struct suite *s, const char *device)
{
	static char path[128];

	snprintf(path, sizeof(path), "%s/%s.sock", s->dir, device);
	return path;
}

const char *suite_type(const struct suite_device *device)
{
	return device->type ? device->type : "net";
}

static int write_config(struct suite *s)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/guest.conf", s->dir);
	f = fopen(path, "we");
	if (!f)
		return say(s, -errno, path, strerror(errno));
	for (size_t i = 0; i < s->n_devices; i++) {
		const struct suite_device *d = &s->devices[i];

		fprintf(f, "[device %s]\ntype = %s\nsocket = %s\n", d->name, suite_type(d),
			suite_socket(s, d->name));
		if (d->backend)
			fprintf(f, "backend = %s\n", d->backend);
		if (d->tap)
			fprintf(f, "tap = %s\n", d->tap);
		if (d->queue_pairs)
			fprintf(f, "queue-pairs = %u\n", d->queue_pairs);
		if (d->generate)
			fprintf(f, "generate = %u\n", d->generate);
		if (d->mtu)
			fprintf(f, "mtu = %u\n", d->mtu);
		if (d->mac)
			fprintf(f, "mac = %s\n", d->mac);
		if (d->wayland)
			fprintf(f, "wayland = %s\n", d->wayland);
		if (d->vfds)
			fprintf(f, "vfds = %u\n", d->vfds);
		if (d->client)
			fprintf(f, "mode = client\n");
		if (d->standby)
			fprintf(f, "standby = yes\n");
	}
	return fclose(f) ? say(s, -errno, path, strerror(errno)) : 0;
}

static void exec_product(const struct suite *s)
{
	char config[128], run[128], program[512];

	snprintf(config, sizeof(config), "%s/guest.conf", s->dir);
	snprintf(run, sizeof(run), "--runtime-dir=%s/run", s->dir);
	snprintf(program, sizeof(program), "%s/procs/launcher/bulkhead", getenv("BULKHEAD_BUILD"));
	execl(program, "bulkhead", "run", config, run, getenv("BULKHEAD_TEST_OPTION"),
		(char *)NULL);
}

static void exec_dpdk(const struct suite *s)
{
	char vdev[SUITE_MAX_DEVICES][192];
	char prefix[96], queues[32];
	const char *argv[40] = { "dpdk-testpmd", "-l", "0-1", "--main-lcore=1", "--no-huge", "-m",
		"512", "--no-pci", prefix };
	uint16_t pairs = s->devices[0].queue_pairs ? s->devices[0].queue_pairs : 1;
	size_t n = 9;

	snprintf(prefix, sizeof(prefix), "--file-prefix=%s", s->dir + sizeof("/tmp/") - 1);
	for (size_t i = 0; i < s->n_devices; i++) {
		snprintf(vdev[i], sizeof(vdev[i]), "--vdev=net_vhost%zu,iface=%s,queues=%u%s", i,
			suite_socket(s, s->devices[i].name), pairs,
			s->devices[i].client ? ",client=1" : "");
		argv[n++] = vdev[i];
	}
	snprintf(queues, sizeof(queues), "--rxq=%u", pairs);
	argv[n++] = "--";
	argv[n++] = "--no-numa";
	argv[n++] = "--total-num-mbufs=16384";
	argv[n++] = "--forward-mode=macswap";
	argv[n++] = "--port-topology=loop";
	argv[n++] = queues;
	argv[n++] = pairs == 1 ? "--txq=1" : pairs == 2 ? "--txq=2" : "--txq=4";
	argv[n++] = "--auto-start";
	execvp(argv[0], (char **)(uintptr_t)argv);
}

/* links all programs, which are spread over the build tree, into one folder */
static void link_programs(const struct suite *s)
{
	const char *build = getenv("BULKHEAD_BUILD");
	char dir[128], from[512], to[256];

	if (s->peer || getenv("BULKHEAD_LIBEXEC"))
		return;
	snprintf(dir, sizeof(dir), "%s/libexec", s->dir);
	if (mkdir(dir, 0700) < 0)
		_exit(126);
	for (size_t i = 0; i < N_ROLES; i++) {
		snprintf(from, sizeof(from), "%s/procs/%s/bulkhead-%s", build, roles[i].name,
			roles[i].name);
		snprintf(to, sizeof(to), "%s/bulkhead-%s", dir, roles[i].name);
		if (symlink(from, to) < 0)
			_exit(126);
	}
	setenv("BULKHEAD_LIBEXEC", dir, 1);
}

static void child(const struct suite *s)
{
	char log[128];
	int pipe_fds[2];
	int fd;

	snprintf(log, sizeof(log), "%s/log", s->dir);
	fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);
	if (fd < 0 || pipe(pipe_fds) < 0)
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	dup2(fd, 1);
	dup2(fd, 2);
	dup2(s->peer ? pipe_fds[0] : open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
	link_programs(s);
	if (s->peer)
		exec_dpdk(s);
	else
		exec_product(s);
	_exit(127);
}

static int look_for_product(struct suite *s)
{
	const char *peer = getenv("BULKHEAD_TEST_PEER");
	const char *build = getenv("BULKHEAD_BUILD");
	char program[512];

	s->peer = peer && !strcmp(peer, "dpdk");
	if (s->peer)
		return 0;
	if (!build)
		return say(s, -ENOENT, "BULKHEAD_BUILD", "not set, it names the build's root");
	snprintf(program, sizeof(program), "%s/procs/launcher/bulkhead", build);
	return access(program, X_OK) ? say(s, -ENOENT, program, strerror(errno)) : 0;
}

static int start_child(struct suite *s)
{
	fflush(NULL);
	s->pid = fork();
	if (s->pid < 0)
		return say(s, -errno, "fork", strerror(errno));
	if (!s->pid)
		child(s);
	return 0;
}

int suite_start(struct suite *s, const struct suite_device *devices, size_t n)
{
	int e;

	memset(s, 0, sizeof(*s));
	memcpy(s->devices, devices, n * sizeof(*devices));
	s->n_devices = n;
	e = look_for_product(s);
	if (e)
		return e;
	strcpy(s->dir, "/tmp/bh-test-XXXXXX");
	/* the processes run as other users, which must reach their sockets */
	if (!mkdtemp(s->dir) || chmod(s->dir, 0711) < 0)
		return say(s, -errno, s->dir, strerror(errno));
	e = write_config(s);
	return e ? e : start_child(s);
}

static pid_t parent_of(pid_t pid)
{
	char path[64], line[512];
	const char *end;
	int parent = -1;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return -1;
	if (fgets(line, sizeof(line), f)) {
		end = strrchr(line, ')');
		if (!end || sscanf(end + 1, " %*c %d", &parent) != 1)
			parent = -1;
	}
	fclose(f);
	return parent;
}

static bool descends(pid_t pid, pid_t from)
{
	for (int depth = 0; depth < 8 && pid > 1; depth++) {
		pid = parent_of(pid);
		if (pid == from)
			return true;
	}
	return false;
}

/* "(late-unmap)", which shares a worker's program and memory, is known by its own name */
static bool helper_of(pid_t pid, char *ret_role, size_t n)
{
	char path[64], name[32] = "";
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/comm", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	if (!fgets(name, sizeof(name), f) || name[0] != '(')
		name[0] = 0;
	fclose(f);
	name[strcspn(name, "\n")] = 0;
	if (name[0])
		snprintf(ret_role, n, "%.30s", name);
	return name[0];
}

static void role_of(pid_t pid, char *ret_role, size_t n)
{
	char path[64], program[256];
	const char *base;
	ssize_t len;

	if (helper_of(pid, ret_role, n))
		return;
	snprintf(path, sizeof(path), "/proc/%d/exe", pid);
	len = readlink(path, program, sizeof(program) - 1);
	program[len < 0 ? 0 : len] = 0;
	base = strrchr(program, '/');
	base = base ? base + 1 : program;
	snprintf(ret_role, n, "%.30s", !strncmp(base, "bulkhead-", 9) ? base + 9 : base);
}

/* the first argument, --instance=GUEST:DEVICE */
static void instance_of(pid_t pid, char *ret_instance, size_t n)
{
	char path[64], args[512] = { 0 };
	const char *first;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (read(fd, args, sizeof(args) - 2) < 0)
			args[0] = 0;
		close(fd);
	}
	first = strrchr(args + strlen(args) + 1, '=');
	snprintf(ret_instance, n, "%.60s", first ? first + 1 : "");
}

size_t suite_processes(const struct suite *s, struct suite_process *ret, size_t max)
{
	DIR *dir = opendir("/proc");
	struct dirent *entry;
	size_t n = 0;

	if (!dir)
		return 0;
	while (n < max && (entry = readdir(dir))) {
		pid_t pid = atoi(entry->d_name);

		if (pid <= 0 || !descends(pid, s->pid))
			continue;
		ret[n].pid = pid;
		role_of(pid, ret[n].role, sizeof(ret[n].role));
		/* one that has ended and is still to be waited for; the frontend's helper, which
		 * ends as soon as it has nothing to look at */
		if (!ret[n].role[0] || !strcmp(ret[n].role, "(intake)"))
			continue;
		instance_of(pid, ret[n].instance, sizeof(ret[n].instance));
		n++;
	}
	closedir(dir);
	return n;
}

void suite_count_fds(pid_t pid, struct suite_fds *fds)
{
	char path[64], target[16];
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	dir = opendir(path);
	while (dir && (entry = readdir(dir))) {
		ssize_t n = readlinkat(dirfd(dir), entry->d_name, target, sizeof(target));

		if (n >= 7 && memcmp(target, "socket:", 7) == 0)
			fds->sockets++;
		else
			fds->others++;
	}
	if (dir)
		closedir(dir);
}

static struct suite_fds open_fds(const struct suite *s)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n = suite_processes(s, all, SUITE_MAX_PROCESSES);
	struct suite_fds fds = { 0 };

	for (size_t i = 0; i < n; i++)
		suite_count_fds(all[i].pid, &fds);
	return fds;
}

pid_t suite_pid(const struct suite *s, const char *role, const char *device)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n = suite_processes(s, all, SUITE_MAX_PROCESSES);

	for (size_t i = 0; i < n; i++) {
		const char *of = strrchr(all[i].instance, ':');

		if (!strcmp(all[i].role, role) && (!device || (of && !strcmp(of + 1, device))))
			return all[i].pid;
	}
	return -1;
}

char *suite_held(const struct suite *s)
{
	return held_by(suite_pid(s, "(keeper)", NULL));
}

static void tell_fds(const struct suite *s, const char *when, FILE *to)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n = suite_processes(s, all, SUITE_MAX_PROCESSES);

	for (size_t i = 0; i < n; i++) {
		char *held = held_by(all[i].pid);

		fprintf(to, "%s: %s %s (pid %d) holds\n%s", when, all[i].role, all[i].instance,
			all[i].pid, held ? held : "");
		free(held);
	}
}

/* What was closed last may still be open in a process that has not been told. */
static struct suite_fds fds_at_rest(const struct suite *s)
{
	struct suite_fds before = { 0 }, now = open_fds(s);

	for (int ms = 0; memcmp(&now, &before, sizeof(now)) != 0 && ms < SETTLE_MS; ms += REST_MS) {
		struct timespec tick = { 0, REST_MS * 1000000 };

		nanosleep(&tick, NULL);
		before = now;
		now = open_fds(s);
	}
	return now;
}

void suite_remember(struct suite *s)
{
	size_t n_text;
	FILE *to;

	s->n_before = suite_processes(s, s->before, SUITE_MAX_PROCESSES);
	s->fds_before = fds_at_rest(s);
	free(s->held_before);
	s->held_before = NULL;
	to = open_memstream(&s->held_before, &n_text);
	if (!to)
		return;
	tell_fds(s, "at the start", to);
	fclose(to);
}

static bool has_leaked(const struct suite *s, const struct suite_fds *now)
{
	return now->others > s->fds_before.others ||
		now->sockets > s->fds_before.sockets + SPARE_SOCKETS;
}

int suite_no_leak(struct suite *s)
{
	struct suite_fds now = open_fds(s);
	char counts[96];

	for (int ms = 0; has_leaked(s, &now) && ms < SETTLE_MS; ms += 5) {
		struct timespec tick = { 0, 5000000 };

		nanosleep(&tick, NULL);
		now = open_fds(s);
	}
	if (!has_leaked(s, &now))
		return 0;
	snprintf(counts, sizeof(counts), "%zu sockets and %zu others, %zu and %zu at the start",
		now.sockets, now.others, s->fds_before.sockets, s->fds_before.others);
	fputs(s->held_before ? s->held_before : "", stderr);
	tell_fds(s, "at the end", stderr);
	return say(s, -EMFILE, "descriptors", counts);
}

int suite_same(struct suite *s)
{
	if (waitpid(s->pid, NULL, WNOHANG | WNOWAIT) > 0 || kill(s->pid, 0) < 0)
		return say(s, -ECHILD, "the launcher", "has ended");
	for (size_t i = 0; i < s->n_before; i++) {
		if (!descends(s->before[i].pid, s->pid))
			return say(s, -ECHILD, "process ended", s->before[i].role);
	}
	return 0;
}

/* One that was killed a moment ago is still being started. */
static pid_t await_process(struct suite *s, const char *role, const char *device)
{
	pid_t pid = suite_pid(s, role, device);

	for (int ms = 0; pid < 0 && ms < START_MS; ms += 5) {
		struct timespec tick = { 0, 5000000 };

		nanosleep(&tick, NULL);
		pid = suite_pid(s, role, device);
	}
	return pid < 0 ? say(s, -ESRCH, "no process", device ? device : role) : pid;
}

/* One that was killed before may be found, and be gone a moment later. */
static int kill_one(struct suite *s, const char *role, const char *device)
{
	pid_t pid;

	while ((pid = await_process(s, role, device)) >= 0 && kill(pid, SIGKILL) < 0)
		if (errno != ESRCH)
			return -errno;
	return pid < 0 ? pid : 0;
}

int suite_kill(struct suite *s, const char *role)
{
	return kill_one(s, role, NULL);
}

int suite_kill_worker(struct suite *s, const char *device)
{
	for (size_t i = 0; i < s->n_devices; i++)
		if (!strcmp(s->devices[i].name, device))
			return kill_one(s, suite_type(&s->devices[i]), device);
	return say(s, -ENODEV, "no device", device);
}

static bool runs(pid_t pid)
{
	char path[64], line[512], state = 'X';
	const char *end;
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	f = fopen(path, "re");
	if (!f)
		return false;
	end = fgets(line, sizeof(line), f) ? strrchr(line, ')') : NULL;
	if (end)
		state = end[2];
	fclose(f);
	return state != 'Z' && state != 'X';
}

int suite_kill_for_good(struct suite *s, const char *role, const char *device)
{
	pid_t pid = await_process(s, role, device);
	int ms = 0;

	if (pid < 0)
		return pid;
	if (kill(s->pid, SIGSTOP) < 0 || kill(pid, SIGKILL) < 0)
		return say(s, -errno, "kill", role);
	for (; runs(pid) && ms < STOP_MS; ms += 5) {
		struct timespec tick = { 0, 5000000 };

		nanosleep(&tick, NULL);
	}
	return ms < STOP_MS ? 0 : say(s, -ETIMEDOUT, "still there", role);
}

void suite_go_on(struct suite *s)
{
	kill(s->pid, SIGCONT);
}

static char *read_log(const struct suite *s)
{
	char path[128];
	char *text = calloc(1, LOG_MAX);
	int fd;

	snprintf(path, sizeof(path), "%s/log", s->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		if (text && read(fd, text, LOG_MAX - 1) < 0)
			text[0] = 0;
		close(fd);
	}
	return text;
}

bool suite_logged(const struct suite *s, const char *text)
{
	char *log = read_log(s);
	bool found = log && strstr(log, text);

	free(log);
	return found;
}

int suite_wait_ready(struct suite *s)
{
	for (int ms = 0; !s->peer && !suite_logged(s, " is served: "); ms += 5) {
		struct timespec tick = { 0, 5000000 };

		if (ms >= START_MS)
			return say(s, -ETIMEDOUT, s->dir, "not every process has started");
		nanosleep(&tick, NULL);
	}
	return 0;
}

static int check_log(struct suite *s)
{
	static const char *const bad[] = { "AddressSanitizer", "LeakSanitizer",
		"runtime error:", "ThreadSanitizer", "impossible: !(", "by signal 4;",
		"by signal 6;", "by signal 7;", "by signal 8;", "by signal 11;" };
	char *log = read_log(s);
	int e = 0;

	for (size_t i = 0; log && !e && i < sizeof(bad) / sizeof(bad[0]); i++) {
		const char *at =
			s->deadly && strstr(bad[i], "by signal") ? NULL : strstr(log, bad[i]);

		if (at)
			e = say(s, -EBADMSG, "the log tells", at);
	}
	free(log);
	return e;
}

static int wait_end(struct suite *s, int *ret_status)
{
	for (int ms = 0; ms < STOP_MS; ms += 5) {
		struct timespec tick = { 0, 5000000 };

		if (waitpid(s->pid, ret_status, WNOHANG) == s->pid)
			return 0;
		nanosleep(&tick, NULL);
	}
	kill(s->pid, SIGKILL);
	waitpid(s->pid, ret_status, 0);
	return say(s, -ETIMEDOUT, "the launcher", "did not end in time");
}

static bool is_gone(pid_t pid)
{
	char path[64], line[256];
	FILE *f;
	bool gone = true;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	f = fopen(path, "re");
	if (!f)
		return true;
	while (fgets(line, sizeof(line), f))
		if (!strncmp(line, "State:", 6))
			gone = strchr(line, 'Z');
	fclose(f);
	return gone;
}

/* checks the log and truncates it */
static int wipe(struct suite *s)
{
	char command[160];
	int e = check_log(s);

	snprintf(command, sizeof(command), "cd '%s' && rm -rf run libexec log *.sock", s->dir);
	return e ? e : system(command) ? -EIO : 0;
}

int suite_kill_all(struct suite *s)
{
	struct suite_process all[SUITE_MAX_PROCESSES];
	size_t n = suite_processes(s, all, SUITE_MAX_PROCESSES);

	kill(s->pid, SIGKILL);
	for (size_t i = 0; i < n; i++)
		kill(all[i].pid, SIGKILL);
	waitpid(s->pid, NULL, 0);
	s->pid = 0;
	for (int ms = 0;; ms += 1) {
		struct timespec tick = { 0, 1000000 };
		size_t i = 0;

		while (i < n && is_gone(all[i].pid))
			i++;
		if (i == n)
			return wipe(s);
		if (ms >= DIES_MS)
			return say(s, -ETIMEDOUT, "killed, and did not go", all[i].role);
		nanosleep(&tick, NULL);
	}
}

int suite_start_again(struct suite *s)
{
	return start_child(s);
}

int suite_stop(struct suite *s)
{
	char command[160];
	int status = 0;
	int e = 0;

	if (s->pid <= 0)
		return 0;
	kill(s->pid, s->peer ? SIGINT : SIGTERM);
	suite_go_on(s);
	e = wait_end(s, &status);
	s->pid = 0;
	if (!e && !s->peer && (!WIFEXITED(status) || WEXITSTATUS(status))) {
		snprintf(command, sizeof(command), "wait status %#x", status);
		e = say(s, -ECHILD, "the launcher's end", command);
	}
	if (!e && !s->peer)
		e = check_log(s);
	if (e || getenv("BULKHEAD_TEST_KEEP")) {
		fprintf(stderr, "kept: %s (the product's output is in %s/log)\n", s->dir, s->dir);
		return e;
	}
	snprintf(command, sizeof(command), "rm -rf '%s'", s->dir);
	return system(command) ? -EIO : 0;
}
