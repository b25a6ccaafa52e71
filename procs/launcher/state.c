/*
 * To upgrade itself, the launcher executes the program that is at its path now in its own process.
 * Its children remain its children, and do not notice. Descriptors are inherited, and the rest of
 * the state is in a memfd.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/program.h"
#include "guest.h"
#include "launcher.h"
#include "launcher.pb-c.h"

#define SERVES 2 /* see LauncherState.needs; 1: without keepers */
#define STATE_BYTES_MAX (64u << 20)

/* --- What is told --- */

static Bh__LauncherChild *tell_child(const struct child *child)
{
	Bh__LauncherChild *told = calloc(1, sizeof(*told));

	check(told);
	bh__launcher_child__init(told);
	told->role = child->role;
	told->instance = child->instance;
	told->pid = child->pid;
	told->was_ready = child->was_ready;
	told->ready = child->ready;
	told->restarts = child->restarts;
	return told;
}

static Bh__LauncherGuest *tell_guest(const struct guest *guest)
{
	Bh__LauncherGuest *told = calloc(1, sizeof(*told));

	check(told);
	bh__launcher_guest__init(told);
	told->name = guest->home.name;
	told->config_path = guest->home.config_path;
	told->runtime_dir = guest->home.runtime_dir;
	told->lock_fd = guest->home.lock_fd;
	told->n_devices = (uint32_t)guest->n_devices;
	told->failed = guest->failed;
	told->keeper_pid = keeper_pid(guest->home.keeper);
	told->keeper_fd = keeper_fd(guest->home.keeper);
	told->children = calloc(guest->n_children + 1, sizeof(*told->children));
	check(told->children);
	for (size_t i = 0; i < guest->n_children; i++)
		if (!guest->children[i].unwanted || guest->children[i].pid)
			told->children[told->n_children++] = tell_child(&guest->children[i]);
	return told;
}

static void forget_guest(Bh__LauncherGuest *told)
{
	for (size_t i = 0; i < told->n_children; i++)
		free(told->children[i]);
	free(told->children);
	free(told);
}

static int write_all(const Bh__LauncherState *state)
{
	size_t n = bh__launcher_state__get_packed_size(state);
	_cleanup_free_ uint8_t *buf = malloc(n);
	_cleanup_close_ int fd = memfd_create("launcher-state", MFD_CLOEXEC);

	check(buf);
	bh__launcher_state__pack(state, buf);
	if (fd < 0 || write(fd, buf, n) != (ssize_t)n)
		return -errno;
	return fd_steal(&fd);
}

/* Returns the memfd with the state | negative errno. */
static int tell(const struct launcher *launcher)
{
	Bh__LauncherState state = BH__LAUNCHER_STATE__INIT;
	int fd;

	state.needs = SERVES;
	state.runtime_dir = launcher->runtime_dir;
	state.notify_fd = launcher->notify_fd;
	if (launcher->notify_path)
		state.notify_path = launcher->notify_path;
	state.announced = launcher->announced;
	state.executions = launcher->executions + 1;
	state.guests = calloc(launcher->n_guests + 1, sizeof(*state.guests));
	check(state.guests);
	for (size_t i = 0; i < launcher->n_guests; i++)
		state.guests[state.n_guests++] = tell_guest(&launcher->guests[i]);
	fd = write_all(&state);
	for (size_t i = 0; i < state.n_guests; i++)
		forget_guest(state.guests[i]);
	free(state.guests);
	return fd;
}

/* --- The change --- */

static void set_inherited(int fd, bool inherited)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, inherited ? 0 : FD_CLOEXEC);
}

static void set_all_inherited(const struct launcher *launcher, bool inherited)
{
	set_inherited(launcher->notify_fd, inherited);
	for (size_t i = 0; i < launcher->n_guests; i++) {
		const struct guest *guest = &launcher->guests[i];

		set_inherited(guest->home.lock_fd, inherited);
		set_inherited(keeper_fd(guest->home.keeper), inherited);
	}
}

/* A program that cannot be executed, or cannot read this form of state, would end all processes:
 * ask it first. */
static int probe(const char *program)
{
	char option[64];

	snprintf(option, sizeof(option), "--takes-over=%d", SERVES);
	return program_probe(program, option);
}

void state_hand_over(struct launcher *launcher)
{
	_cleanup_close_ int fd = -1;
	char text[16];
	int r = probe(launcher->program);

	if (r == 0)
		r = fd = tell(launcher);
	if (r >= 0) {
		snprintf(text, sizeof(text), "%d", fd);
		(void)setenv(LAUNCHER_STATE_ENV, text, 1);
		set_inherited(fd, true);
		set_all_inherited(launcher, true);
		execv(launcher->program, launcher->argv);
		r = -errno;
		set_all_inherited(launcher, false);
		(void)unsetenv(LAUNCHER_STATE_ENV);
	}
	log_error("cannot replace this launcher with %s: %s; nothing has changed",
		launcher->program, strerror(-r));
}

/* --- What was told --- */

static bool is_open(int fd)
{
	return fd > STDERR_FILENO && fcntl(fd, F_GETFD) >= 0;
}

static void take_child(struct guest *guest, const Bh__LauncherChild *told)
{
	struct child *child = guest_add(guest, told->role, told->instance);

	child->was_ready = told->was_ready;
	child->ready = told->ready;
	child->restarts = told->restarts;
	child->pid = told->pid;
	if (child->pid > 0 && child_adopt(child) < 0)
		child->pid = 0;
}

/* The keeper takes them as fast as they come, at most a few thousand. */
static void give(struct keeper *keeper, const char *child, const Bh__LauncherStored *stored)
{
	const struct timespec pause = { .tv_nsec = 1000000 };
	int r;

	while ((r = keeper_add(keeper, child, stored->name, stored->fd)) == -EAGAIN)
		nanosleep(&pause, NULL);
	if (r < 0)
		log_error("%s: its stored descriptor '%s' is lost: %s", child, stored->name,
			strerror(-r));
}

/* The launcher of a former release kept the stores itself. They move to the keeper, which listens
 * from the child's next start on. */
static void give_stores(struct guest *guest, const Bh__LauncherGuest *told)
{
	for (size_t i = 0; i < guest->n_children; i++)
		for (size_t j = 0; j < told->children[i]->n_stored; j++) {
			const Bh__LauncherStored *stored = told->children[i]->stored[j];

			if (!is_open(stored->fd))
				continue;
			give(guest->home.keeper, guest->children[i].title, stored);
			fd_close(stored->fd);
		}
}

/* Without a keeper no child can be started again. */
static void take_keeper(struct guest *guest, const Bh__LauncherGuest *told)
{
	int r;

	if (told->keeper_pid && is_open(told->keeper_fd)) {
		set_inherited(told->keeper_fd, false);
		r = guest_adopt_keeper(guest, told->keeper_pid, told->keeper_fd);
	} else {
		r = guest_keep(guest);
		if (r == 0)
			give_stores(guest, told);
	}
	guest->failed |= r < 0;
}

static void take_guest(struct launcher *launcher, const Bh__LauncherGuest *told)
{
	struct guest *guest = &launcher->guests[launcher->n_guests++];

	guest_init(launcher, guest);
	guest->home.name = strdup(told->name);
	guest->home.config_path = strdup(told->config_path);
	guest->home.runtime_dir = strdup(told->runtime_dir);
	guest->home.lock_fd = told->lock_fd;
	guest->n_devices = told->n_devices;
	guest->failed = told->failed;
	check(guest->home.name && guest->home.config_path && guest->home.runtime_dir);
	guest_find_copy(guest);
	set_inherited(guest->home.lock_fd, false);
	for (size_t i = 0; i < MIN(told->n_children, (size_t)GUEST_CHILDREN_MAX); i++)
		take_child(guest, told->children[i]);
	take_keeper(guest, told);
}

/* Last of all: whoever waits for the number finds the file in force. */
static void note_execution(const struct launcher *launcher, const struct guest *guest)
{
	lock_note(guest->home.lock_fd, SLOT_EXECUTIONS, launcher->executions, guest->home.name);
}

static int read_all(int fd, Bh__LauncherState **ret_state)
{
	_cleanup_free_ uint8_t *buf = NULL;
	struct stat st;

	if (!is_open(fd) || fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > STATE_BYTES_MAX)
		return -EBADF;
	buf = malloc((size_t)st.st_size);
	check(buf);
	if (pread(fd, buf, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	*ret_state = bh__launcher_state__unpack(NULL, (size_t)st.st_size, buf);
	if (!*ret_state)
		return -EBADMSG;
	if ((*ret_state)->needs <= SERVES)
		return 0;
	bh__launcher_state__free_unpacked(*ret_state, NULL);
	return -EPROTO;
}

bool state_serves(const char *form)
{
	return strtoul(form, NULL, 10) <= SERVES;
}

int state_take_over(struct launcher *launcher, int fd)
{
	Bh__LauncherState *state = NULL;
	int r = read_all(fd, &state);

	if (r < 0) {
		log_error("cannot read the state of the previous launcher (%s): its processes end, and the VMMs lose their devices; start again",
			strerror(-r));
		return r;
	}
	fd_close(fd);
	if (is_open(state->notify_fd)) {
		launcher->notify_fd = state->notify_fd;
		launcher->notify_path = strdup(state->notify_path);
		check(launcher->notify_path);
		set_inherited(launcher->notify_fd, false);
	}
	launcher->announced = state->announced;
	launcher->executions = state->executions;
	launcher->guests = calloc(state->n_guests + 1, sizeof(*launcher->guests));
	check(launcher->guests);
	for (size_t i = 0; i < state->n_guests; i++)
		take_guest(launcher, state->guests[i]);
	for (size_t i = 0; i < launcher->n_guests; i++) {
		guest_follow(&launcher->guests[i]);
		note_execution(launcher, &launcher->guests[i]);
	}
	bh__launcher_state__free_unpacked(state, NULL);
	return 0;
}
