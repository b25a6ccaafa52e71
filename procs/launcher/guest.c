/*
 * A guest's file, its lock, and its processes. The lock file says who serves the guest: in lines of equal
 * length our pid, how often we took our own place, and our children's pids. What stands there when nobody
 * holds the lock was left by a launcher that was killed. Its children die with it, but not at once: they
 * have memory to give back, and hold their sockets until then.
 */
#include "child.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/roles.h"
#include "config/user.h"

#define WAIT_MS 10000
#define STEP_MS 5

/* --- What the lock file says --- */

void guest_note(const struct guest *guest, size_t slot, unsigned long number)
{
	char line[SLOT_BYTES + 1];

	snprintf(line, sizeof(line), "%10lu\n", number % 10000000000UL);
	if (pwrite(guest->lock_fd, line, SLOT_BYTES, (off_t)(slot * SLOT_BYTES)) != SLOT_BYTES)
		log_warning("cannot write the lock file of guest %s: %s", guest->name, strerror(errno));
}

static pid_t noted_pid(int lock_fd, size_t slot)
{
	char line[SLOT_BYTES + 1] = "";

	if (pread(lock_fd, line, SLOT_BYTES, (off_t)(slot * SLOT_BYTES)) != SLOT_BYTES)
		return 0;
	return (pid_t)strtol(line, NULL, 10);
}

/* Whether the process still holds something: a zombie does not. */
static bool lives(pid_t pid)
{
	char path[64], text[64] = "", *state;
	_cleanup_close_ int fd = -1;

	if (pid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		return false;
	state = strrchr(text, ')');
	return state && state[1] && !strchr("ZX", state[2]);
}

static bool any_child_lives(const struct guest *guest)
{
	struct stat st;

	if (fstat(guest->lock_fd, &st) < 0)
		return false;
	for (size_t i = SLOT_CHILDREN; i < (size_t)st.st_size / SLOT_BYTES; i++)
		if (lives(noted_pid(guest->lock_fd, i)))
			return true;
	return false;
}

static void wait_for_children(const struct guest *guest)
{
	const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };

	for (int i = 0; i < WAIT_MS / STEP_MS && any_child_lives(guest); i++)
		nanosleep(&step, NULL);
}

/* --- The lock --- */

/* A launcher that is being killed holds the lock for a moment longer. */
static int take_lock(int fd)
{
	const struct timespec step = { .tv_nsec = STEP_MS * 1000000L };

	for (int i = 0; i < WAIT_MS / STEP_MS; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (lives(noted_pid(fd, SLOT_LAUNCHER)))
			return -EBUSY;
		nanosleep(&step, NULL);
	}
	return -EBUSY;
}

/* The longest path of a socket that the guest's processes make: an error is told before anything is begun. */
static int judge_path(const struct guest *guest, const struct config *config)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	size_t longest = 0;

	for (struct process process = { 0 }; process_next(config, &process);)
		longest = MAX(longest, strlen(process.peer));
	longest += strlen("/notify/.sock");
	if (strlen(guest->runtime_dir) + longest <= max)
		return 0;
	log_error("cannot use the directory %s: the paths of the sockets in it would have more than %zu characters; "
		  "choose a shorter one with --runtime-dir=DIR", guest->runtime_dir, max);
	return -ENAMETOOLONG;
}

static int lock_guest(struct guest *guest)
{
	_cleanup_free_ char *path = NULL;
	pid_t former;

	if (mkdir(guest->runtime_dir, 0755) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", guest->runtime_dir, strerror(errno));
		return -errno;
	}
	check(asprintf(&path, "%s/lock", guest->runtime_dir) >= 0);
	guest->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (guest->lock_fd < 0 || take_lock(guest->lock_fd) < 0) {
		log_error("guest %s is already being served (%s is locked); stop the other instance first",
			guest->name, path);
		return -EBUSY;
	}
	former = noted_pid(guest->lock_fd, SLOT_LAUNCHER);
	if (former && former != getpid())
		log_warning("guest %s: the former launcher (pid %d) was killed, and its processes with it: "
			    "its VMMs have lost their devices and must connect again",
			guest->name, former);
	if (former)
		wait_for_children(guest);
	if (ftruncate(guest->lock_fd, 0) < 0)
		return -errno;
	guest_note(guest, SLOT_LAUNCHER, (unsigned long)getpid());
	guest_note(guest, SLOT_EXECUTIONS, guest->launcher->executions);
	return 0;
}

/* --- Its keeper --- */

/* Notification sockets are their owners' alone by their modes; nobody else makes anything here. */
static int make_notify_folder(const struct guest *guest)
{
	_cleanup_free_ char *path = NULL;

	check(asprintf(&path, "%s/notify", guest->runtime_dir) >= 0);
	if (mkdir(path, 0711) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", path, strerror(errno));
		return -errno;
	}
	return chmod(path, 0711) < 0 ? -errno : 0;
}

static int judge_keeper(const struct guest *guest, int r)
{
	if (r < 0)
		log_error("guest %s: cannot start its keeper: %s", guest->name, strerror(-r));
	return r;
}

int guest_adopt_keeper(struct guest *guest, pid_t pid, int fd)
{
	return judge_keeper(guest, keeper_adopt(&guest->keeper, guest->launcher->event, guest->name, pid, fd,
		&launcher_events, guest));
}

static void open_child(struct child *child)
{
	int r = child_open(child);

	if (r < 0)
		log_error("%s: cannot make its notification socket: %s", child->title, strerror(-r));
}

int guest_keep(struct guest *guest)
{
	uid_t user = geteuid() == 0 ? user_of(guest->name, "keeper") : 0;
	int r = make_notify_folder(guest);

	if (r < 0)
		return r;
	r = judge_keeper(guest, keeper_new(&guest->keeper, guest->launcher->event, guest->name, user,
		&launcher_events, guest));
	if (r == 0)
		guest_note(guest, SLOT_KEEPER, (unsigned long)keeper_pid(guest->keeper));
	for (size_t i = 0; r == 0 && i < guest->n_children; i++)
		open_child(&guest->children[i]);
	return r;
}

/* --- Its processes --- */

static struct child *find_child(const struct guest *guest, const char *role, const char *instance)
{
	for (size_t i = 0; i < guest->n_children; i++)
		if (strcmp(guest->children[i].role, role) == 0 && strcmp(guest->children[i].instance, instance) == 0)
			return &guest->children[i];
	return NULL;
}

/* Once the guest is served, one that cannot start is that device's trouble alone: it is tried again. */
static void add_child(struct guest *guest, const char *role, const char *instance)
{
	struct child *child = find_child(guest, role, instance);

	if (!child && guest->n_children == GUEST_CHILDREN_MAX) {
		log_error("no room for %s %s; what is no longer wanted must end first", role, instance);
		return;
	}
	if (!child) {
		child = &guest->children[guest->n_children++];
		child_init(child, guest, role, instance);
		child->was_ready = guest->launcher->announced;
		open_child(child);
	}
	child->unwanted = false;
}

static void add_children(struct guest *guest, const struct config *config)
{
	guest->n_devices = config->n_devices;
	for (struct process process = { 0 }; process_next(config, &process);)
		add_child(guest, process.role->name, process.instance);
}

/* An error begins with the place it is at: "FILE:LINE: " or "FILE: ". */
static void log_config_error(const struct launcher *launcher, const char *file, const char *line)
{
	size_t n = strlen(file);
	const char *text = strncmp(line, file, n) == 0 ? strstr(line + n, ": ") : NULL;

	log_error("%s", launcher->from_options && text ? text + 2 : line);
}

static int read_config(const struct launcher *launcher, const char *file, struct config **ret_config)
{
	_cleanup_free_ char *error = NULL;
	char *line, *rest;
	int r = config_load(file, ret_config, &error);

	for (rest = error; r < 0 && (line = strsep(&rest, "\n"));)
		log_config_error(launcher, file, line);
	return r;
}

struct child *guest_children(void)
{
	struct child *children = calloc(GUEST_CHILDREN_MAX, sizeof(*children));

	check(children);
	return children;
}

int guest_open(struct launcher *launcher, struct guest *guest, const char *file)
{
	struct config *config = NULL;
	int r;

	*guest = (struct guest){ .launcher = launcher, .lock_fd = -1 };
	r = read_config(launcher, file, &config);
	if (r < 0)
		return r;
	guest->name = strdup(config->guest);
	guest->config_path = realpath(file, NULL);
	check(guest->name && guest->config_path);
	check(asprintf(&guest->runtime_dir, "%s/%s", launcher->runtime_dir, guest->name) >= 0);
	guest->children = guest_children();
	r = judge_path(guest, config);
	if (r == 0)
		r = lock_guest(guest);
	if (r < 0)
		guest->lock_fd = fd_close(guest->lock_fd);
	else
		r = guest_keep(guest);
	if (r == 0)
		add_children(guest, config);
	config_free(config);
	return r;
}

void guest_follow(struct guest *guest)
{
	struct config *config = NULL;

	if (guest->launcher->from_options || read_config(guest->launcher, guest->config_path, &config) < 0)
		return;
	for (size_t i = 0; i < guest->n_children; i++)
		guest->children[i].unwanted = true;
	add_children(guest, config);
	config_free(config);
}

void guest_close(struct guest *guest)
{
	for (size_t i = 0; i < guest->n_children; i++)
		child_free(&guest->children[i]);
	keeper_free(guest->keeper);
	free(guest->children);
	if (guest->lock_fd >= 0 && ftruncate(guest->lock_fd, 0) < 0)
		log_warning("cannot empty the lock file of guest %s: %s", guest->name, strerror(errno));
	fd_close(guest->lock_fd);
	free(guest->name);
	free(guest->runtime_dir);
	free(guest->config_path);
	*guest = (struct guest){ .lock_fd = -1 };
}
