/* A guest's file, its lock, its keeper and its processes. */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "config/claims.h"
#include "config/force.h"
#include "config/roles.h"
#include "config/user.h"
#include "told.h"

/* Whether the paths of all sockets fit; an error is reported before anything is started. */
static int judge_path(const struct guest *guest, const struct config *config)
{
	const size_t max = sizeof(((struct sockaddr_un *)NULL)->sun_path) - 1;
	size_t longest = 0;

	for (struct process process = { 0 }; process_next(config, &process);)
		longest = MAX(longest, strlen(process.peer));
	longest += strlen("/notify/.sock");
	if (strlen(guest->home.runtime_dir) + longest <= max)
		return 0;
	log_error("cannot use the directory %s: the paths of the sockets in it would have more than %zu characters; "
		  "choose a shorter one with --runtime-dir=DIR",
		guest->home.runtime_dir, max);
	return -ENAMETOOLONG;
}

static int lock_guest(struct guest *guest)
{
	_cleanup_free_ char *path = NULL;
	pid_t former;
	int r;

	if (mkdir(guest->home.runtime_dir, 0755) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", guest->home.runtime_dir,
			strerror(errno));
		return -errno;
	}
	check(asprintf(&path, "%s/lock", guest->home.runtime_dir) >= 0);
	guest->home.lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (guest->home.lock_fd < 0 || lock_take(guest->home.lock_fd) < 0) {
		log_error("guest %s is already being served (%s is locked); stop the other instance first",
			guest->home.name, path);
		return -EBUSY;
	}
	former = lock_pid(guest->home.lock_fd, SLOT_LAUNCHER);
	if (former && former != getpid())
		log_warning("guest %s: the previous launcher (pid %d) was killed together with its processes; the VMMs have lost their devices and must reconnect",
			guest->home.name, former);
	if (former)
		lock_wait_for_children(guest->home.lock_fd);
	r = lock_blank(guest->home.lock_fd);
	if (r < 0) {
		log_error("cannot write %s: %s; make room there, or choose another folder with --runtime-dir=DIR",
			path, strerror(-r));
		return r;
	}
	lock_note(guest->home.lock_fd, SLOT_LAUNCHER, (unsigned long)getpid(), guest->home.name);
	lock_note(guest->home.lock_fd, SLOT_EXECUTIONS, guest->launcher->executions,
		guest->home.name);
	return 0;
}

/* --- Its keeper --- */

/* The modes of the notification sockets keep them apart; only the launcher creates files in this
 * folder. */
static int make_notify_folder(const struct guest *guest)
{
	_cleanup_free_ char *path = NULL;

	check(asprintf(&path, "%s/notify", guest->home.runtime_dir) >= 0);
	if (mkdir(path, 0711) < 0 && errno != EEXIST) {
		log_error("cannot make the directory %s: %s", path, strerror(errno));
		return -errno;
	}
	return chmod(path, 0711) < 0 ? -errno : 0;
}

static int judge_keeper(const struct guest *guest, int r)
{
	if (r < 0)
		log_error("guest %s: cannot start its keeper: %s", guest->home.name, strerror(-r));
	return r;
}

int guest_adopt_keeper(struct guest *guest, pid_t pid, int fd)
{
	return judge_keeper(guest,
		keeper_adopt(&guest->home.keeper, guest->launcher->event, guest->home.name, pid, fd,
			guest->launcher->keeper_events, guest));
}

static void open_child(struct child *child)
{
	int r = child_open(child);

	if (r < 0)
		log_error("%s: cannot make its notification socket: %s", child->title,
			strerror(-r));
}

int guest_keep(struct guest *guest)
{
	uid_t user = geteuid() == 0 ? user_of(guest->home.name, "keeper") : 0;
	int r = make_notify_folder(guest);

	if (r < 0)
		return r;
	r = judge_keeper(guest,
		keeper_new(&guest->home.keeper, guest->launcher->event, guest->home.name, user,
			guest->launcher->keeper_events, guest));
	if (r == 0)
		lock_note(guest->home.lock_fd, SLOT_KEEPER,
			(unsigned long)keeper_pid(guest->home.keeper), guest->home.name);
	for (size_t i = 0; r == 0 && i < guest->n_children; i++)
		open_child(&guest->children[i]);
	return r;
}

/* --- Its processes --- */

static struct child *find_child(const struct guest *guest, const char *role, const char *instance)
{
	for (size_t i = 0; i < guest->n_children; i++)
		if (strcmp(guest->children[i].role, role) == 0 &&
			strcmp(guest->children[i].instance, instance) == 0)
			return &guest->children[i];
	return NULL;
}

void guest_init(struct launcher *launcher, struct guest *guest)
{
	*guest = (struct guest){ .launcher = launcher,
		.home = { .event = launcher->event,
			.libexec_dir = launcher->libexec_dir,
			.build_tree = launcher->build_tree,
			.runtime_base = launcher->runtime_dir,
			.watchdog_usec = launcher->watchdog_usec,
			.lock_fd = -1,
			.ended = launcher->child_ended } };
	guest->children = calloc(GUEST_CHILDREN_MAX, sizeof(*guest->children));
	check(guest->children);
}

struct child *guest_add(struct guest *guest, const char *role, const char *instance)
{
	struct child *child = &guest->children[guest->n_children];

	check(guest->n_children < GUEST_CHILDREN_MAX);
	child_init(child, &guest->home, role, instance);
	child->guest = guest;
	child->slot = SLOT_CHILDREN + guest->n_children++;
	return child;
}

/* If the guest is being served, a new child that cannot start is tried again and does not end the
 * guest. */
static void add_child(struct guest *guest, const char *role, const char *instance)
{
	struct child *child = find_child(guest, role, instance);

	if (!child && guest->n_children == GUEST_CHILDREN_MAX) {
		log_error("no room for %s %s until processes that are no longer needed have ended",
			role, instance);
		return;
	}
	if (!child) {
		child = guest_add(guest, role, instance);
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

/* An error begins with "FILE:LINE: " or "FILE: ". */
static void log_config_error(const struct launcher *launcher, const char *file, const char *line)
{
	size_t n = strlen(file);
	const char *text = strncmp(line, file, n) == 0 ? strstr(line + n, ": ") : NULL;

	log_error("%s", launcher->from_options && text ? text + 2 : line);
}

static int read_config(const struct launcher *launcher, const char *file,
	struct config **ret_config)
{
	_cleanup_free_ char *error = NULL;
	char *line, *rest;
	int r = config_load(file, ret_config, &error);

	for (rest = error; r < 0 && (line = strsep(&rest, "\n"));)
		log_config_error(launcher, file, line);
	return r;
}

/* --- The configuration in force --- */

/* What the other guests of this launcher have alone, see config/claims.h. */
static void add_claims(struct claims *claims, const struct guest *guest)
{
	struct config *config = guest->home.copy_path
		? force_load(guest->launcher->runtime_dir, guest->home.name)
		: NULL;
	struct clash clash = { 0 };

	if (config && claims_add(claims, config, &clash) < 0)
		clash_deinit(&clash);
	config_free(config);
}

static int judge_claims(const struct guest *guest, const struct config *config)
{
	const struct launcher *launcher = guest->launcher;
	_cleanup_free_ char *text = NULL;
	struct claims claims = { 0 };
	struct clash clash = { 0 };
	int r;

	for (size_t i = 0; i < launcher->n_guests; i++)
		if (&launcher->guests[i] != guest)
			add_claims(&claims, &launcher->guests[i]);
	r = claims_add(&claims, config, &clash);
	if (r < 0) {
		text = clash_text(&clash, config);
		log_error("%s", text);
	}
	clash_deinit(&clash);
	claims_deinit(&claims);
	return r;
}

/* Without a copy the processes read the file, which may change under them. */
static void put_in_force(struct guest *guest, const struct config *config)
{
	const char *dir = guest->launcher->runtime_dir;
	int r = force_put(dir, config);

	if (r == 0)
		r = force_put_origin(dir, guest->home.name, guest->home.config_path);
	if (r < 0)
		log_warning("guest %s: its configuration cannot be copied to %s: %s",
			guest->home.name, dir, strerror(-r));
	else if (!guest->home.copy_path)
		guest->home.copy_path = force_path(dir, guest->home.name);
}

void guest_find_copy(struct guest *guest)
{
	char *path = force_path(guest->launcher->runtime_dir, guest->home.name);

	if (!guest->launcher->from_options && access(path, R_OK) == 0)
		guest->home.copy_path = path;
	else
		free(path);
}

int guest_open(struct launcher *launcher, struct guest *guest, const char *file)
{
	struct config *config = NULL;
	int r;

	guest_init(launcher, guest);
	r = read_config(launcher, file, &config);
	if (r < 0)
		return r;
	guest->home.name = strdup(config->guest);
	guest->home.config_path = realpath(file, NULL);
	check(guest->home.name && guest->home.config_path);
	check(asprintf(&guest->home.runtime_dir, "%s/%s", launcher->runtime_dir,
		      guest->home.name) >= 0);
	r = judge_path(guest, config);
	if (r == 0)
		r = judge_claims(guest, config);
	if (r == 0)
		r = lock_guest(guest);
	if (r < 0)
		guest->home.lock_fd = fd_close(guest->home.lock_fd);
	else
		r = guest_keep(guest);
	if (r == 0 && !launcher->from_options)
		put_in_force(guest, config);
	if (r == 0)
		add_children(guest, config);
	config_free(config);
	return r;
}

void guest_follow(struct guest *guest)
{
	struct config *config = NULL;

	if (guest->launcher->from_options)
		return;
	if (read_config(guest->launcher, guest->home.config_path, &config) < 0 ||
		judge_claims(guest, config) < 0) {
		log_error("guest %s keeps the configuration in force; correct its file, then run 'bulkheadctl apply %s'",
			guest->home.name, guest->home.name);
		config_free(config);
		return;
	}
	put_in_force(guest, config);
	for (size_t i = 0; i < guest->n_children; i++)
		guest->children[i].unwanted = true;
	add_children(guest, config);
	config_free(config);
}

void guest_close(struct guest *guest)
{
	for (size_t i = 0; i < guest->n_children; i++)
		child_free(&guest->children[i]);
	told_remove(guest);
	keeper_free(guest->home.keeper);
	free(guest->children);
	if (guest->home.copy_path)
		force_drop(guest->launcher->runtime_dir, guest->home.name);
	if (guest->home.lock_fd >= 0 && ftruncate(guest->home.lock_fd, 0) < 0)
		log_warning("cannot empty the lock file of guest %s: %s", guest->home.name,
			strerror(errno));
	fd_close(guest->home.lock_fd);
	free(guest->home.name);
	free(guest->home.runtime_dir);
	free(guest->home.config_path);
	free(guest->home.copy_path);
	*guest = (struct guest){ .home = { .lock_fd = -1 } };
}
