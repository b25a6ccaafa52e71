#include "check.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "config/force.h"

static const char *confdir(void)
{
	return getenv("BULKHEAD_CONFDIR") ?: BULKHEAD_CONFDIR;
}

bool check_is_usual(const char *runtime_dir)
{
	return strcmp(runtime_dir, BULKHEAD_RUNDIR) == 0;
}

/* Guests of another runtime directory are launchers', whose files lie wherever they were told. */
const char *check_folder(const char *runtime_dir, const char *config_dir)
{
	return config_dir ?: check_is_usual(runtime_dir) ? confdir() : NULL;
}

void check_host(struct host *host, const char *runtime_dir, const char *config_dir)
{
	host_load(host, check_folder(runtime_dir, config_dir), runtime_dir);
	for (size_t i = 0; i < host->n_guests; i++) {
		_cleanup_free_ char *file = force_origin(runtime_dir, host->guests[i].name);

		if (file && strcmp(file, host->guests[i].path) != 0)
			host_set_path(host, &host->guests[i], file);
	}
}

/* The file of a guest that is still served. */
static bool is_missed(const struct host_guest *guest)
{
	return guest->gone && guest->runs;
}

/* --- Users and groups --- */

/* A number need not have a name. */
static bool is_number(const char *name)
{
	return name[strspn(name, "0123456789")] == '\0';
}

static bool is_missing(const struct config *config, const struct config_device *device,
	const char *key, const char *name, const char *command)
{
	bool group = strcmp(key, "socket-group") == 0;

	if (!name || is_number(name) || (group ? getgrnam(name) != NULL : getpwnam(name) != NULL))
		return false;
	fprintf(stderr,
		"%s:%u: [device %s] %s = %s: there is no such %s; create it (%s --system %s), or correct the name\n",
		config->path, device->line, device->name, key, name, group ? "group" : "user",
		command, name);
	return true;
}

/* The generator does not look: names may come from where it cannot ask at boot. */
static bool accounts_are_missing(const struct config *config)
{
	bool missing = false;

	for (size_t i = 0; config && i < config->n_devices; i++) {
		const struct config_device *device = &config->devices[i];

		missing |=
			is_missing(config, device, "socket-user", device->socket_user, "useradd");
		missing |= is_missing(config, device, "socket-group", device->socket_group,
			"groupadd");
	}
	return missing;
}

/* --- The outcome --- */

bool check_report(const struct host_guest *guest)
{
	bool missing = accounts_are_missing(guest->file);

	if (!guest->error && !missing)
		return false;
	if (guest->error)
		fprintf(stderr, "%s\n", guest->error);
	if (guest->runs)
		fprintf(stderr, "%s: guest %s keeps the configuration in force meanwhile\n",
			guest->path, guest->name);
	return true;
}

static bool report(const struct host_guest *guest, bool named)
{
	if (named || !guest->gone)
		return check_report(guest);
	if (is_missed(guest))
		fprintf(stderr,
			"%s: was removed, and guest %s is still served; put it back, or end the guest: bulkheadctl apply %s\n",
			guest->path, guest->name, guest->name);
	return is_missed(guest);
}

static void note_difference(const struct host_guest *guest)
{
	if (guest->runs && guest->file && !force_is(guest->file, guest->copy))
		printf("%s: differs from what is in force; put it into force: bulkheadctl apply %s\n",
			guest->path, guest->name);
}

int check_run(const char *runtime_dir, const char *config_dir, char *files[], size_t n)
{
	struct host host = { 0 };
	size_t n_good = 0, n_bad = 0;

	check_host(&host, runtime_dir, config_dir);
	for (size_t i = 0; i < host.n_guests; i++)
		host.guests[i].chosen = n == 0;
	for (size_t i = 0; i < n; i++)
		host_add(&host, files[i]);
	host_judge(&host);
	for (size_t i = 0; i < host.n_guests; i++) {
		const struct host_guest *guest = &host.guests[i];

		if (!guest->chosen || (guest->gone && !n && !is_missed(guest)))
			continue;
		if (report(guest, n > 0)) {
			n_bad++;
			continue;
		}
		n_good++;
		note_difference(guest);
	}
	host_deinit(&host);
	if (n_bad == 0)
		printf("%zu file%s good\n", n_good, n_good == 1 ? " is" : "s are");
	return n_bad ? -EINVAL : 0;
}

/* --- Before an upgrade --- */

static int judge_one(const char *path)
{
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;
	int r = config_load(path, &config, &error);

	if (r < 0)
		fprintf(stderr, "%s\n", error);
	config_free(config);
	return r < 0 ? -EINVAL : 0;
}

int check_before_upgrade(const char *runtime_dir, const char *guest)
{
	_cleanup_free_ char *copy = force_path(runtime_dir, guest);
	_cleanup_free_ char *file = force_origin(runtime_dir, guest);

	if (!file)
		check(asprintf(&file, "%s/%s.conf", confdir(), guest) >= 0);
	if (access(copy, F_OK) < 0) {
		if (access(file, F_OK) < 0 || judge_one(file) == 0)
			return 0;
		fprintf(stderr, "%s: not upgraded: correct its file first; nothing has changed\n",
			guest);
		return -EINVAL;
	}
	if (judge_one(copy) < 0) {
		fprintf(stderr,
			"%s: not upgraded: this release cannot read the configuration in force; nothing has changed\n",
			guest);
		return -EINVAL;
	}
	if (access(file, F_OK) == 0 && judge_one(file) < 0)
		fprintf(stderr,
			"%s: the file is faulty; the processes keep the configuration in force\n",
			guest);
	return 0;
}
