/* The copy is written beside its place and renamed, so a reader finds the former or the new one. */
#include "config/force.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "config/roles.h"

#define FOLDER ".config" /* no guest has such a name */

char *force_path(const char *runtime_dir, const char *guest)
{
	char *path;

	check(asprintf(&path, "%s/" FOLDER "/%s.conf", runtime_dir, guest) >= 0);
	return path;
}

/* The processes of a guest know the name of their file, and have no use for a list of guests. */
static int make_folder(const char *runtime_dir)
{
	_cleanup_free_ char *folder = NULL;

	check(asprintf(&folder, "%s/" FOLDER, runtime_dir) >= 0);
	if ((mkdir(runtime_dir, 0755) < 0 && errno != EEXIST) ||
		(mkdir(folder, 0711) < 0 && errno != EEXIST))
		return -errno;
	return 0;
}

/* The processes of the guest have users of their own, and read it. */
static int write_copy(const char *path, const struct config *config)
{
	_cleanup_close_ int fd =
		open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (fd < 0 || fchmod(fd, 0644) < 0)
		return -errno;
	for (size_t at = 0; at < config->n_text;) {
		ssize_t n = write(fd, config->text + at, config->n_text - at);

		if (n < 0)
			return -errno;
		at += (size_t)n;
	}
	return 0;
}

int force_put(const char *runtime_dir, const struct config *config)
{
	_cleanup_free_ char *path = force_path(runtime_dir, config->guest), *beside = NULL;
	int r = make_folder(runtime_dir);

	check(asprintf(&beside, "%s.%d", path, getpid()) >= 0);
	if (r == 0)
		r = write_copy(beside, config);
	if (r == 0 && rename(beside, path) < 0)
		r = -errno;
	if (r < 0)
		(void)unlink(beside);
	return r;
}

static char *origin_path(const char *runtime_dir, const char *guest)
{
	char *path;

	check(asprintf(&path, "%s/" FOLDER "/%s.file", runtime_dir, guest) >= 0);
	return path;
}

int force_put_origin(const char *runtime_dir, const char *guest, const char *file)
{
	_cleanup_free_ char *path = origin_path(runtime_dir, guest);
	int r = make_folder(runtime_dir);

	if (r < 0)
		return r;
	(void)unlink(path);
	return symlink(file, path) < 0 ? -errno : 0;
}

char *force_origin(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *path = origin_path(runtime_dir, guest);
	char file[PATH_MAX];
	ssize_t n = readlink(path, file, sizeof(file) - 1);
	char *copy = n < 0 ? NULL : strndup(file, (size_t)n);

	check(n < 0 || copy);
	return copy;
}

void force_drop(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *path = force_path(runtime_dir, guest);
	_cleanup_free_ char *origin = origin_path(runtime_dir, guest);

	(void)unlink(path);
	(void)unlink(origin);
}

struct config *force_load(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *path = force_path(runtime_dir, guest), *error = NULL;
	struct config *config = NULL;

	return config_load(path, &config, &error) < 0 ? NULL : config;
}

bool force_is(const struct config *a, const struct config *b)
{
	return a->n_text == b->n_text && memcmp(a->text, b->text, a->n_text) == 0;
}

static bool has_folder(const char *runtime_dir, const struct config *config,
	const struct process *process)
{
	_cleanup_free_ char *path = NULL;

	check(asprintf(&path, "%s/%s/%s", runtime_dir, config->guest,
		      process->role->folder ?: process->peer) >= 0);
	return access(path, F_OK) == 0;
}

static bool is_socket(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

bool force_runs(const char *runtime_dir, const struct config *config)
{
	for (struct process process = { 0 }; process_next(config, &process);)
		if (has_folder(runtime_dir, config, &process))
			return true;
	for (size_t i = 0; i < config->n_devices; i++)
		if (!config->devices[i].client && is_socket(config->devices[i].socket))
			return true;
	return false;
}
