/*
 * The systemd generator. For each guest it makes bulkhead.target want the processes of the guest
 * (config/roles.h). systemd runs it at boot and with every daemon-reload, which any package may
 * cause while an operator edits a file. A guest that runs therefore keeps its units until
 * `bulkheadctl apply`: systemd closes the sockets of a unit that is gone or changed. The
 * configuration is the one in force, or the file of a guest that does not run (config/host.h). The
 * frontend wants a socket unit for each device that VMMs connect to, so that systemd listens
 * whether the frontend runs or not. A drop-in gives each process its user, groups and runtime
 * folder, which a template cannot compute. systemd accepts a numeric user only if the user exists,
 * so a user record is written to where nss-systemd finds it (/run/userdb). A file with errors is
 * reported line by line, and does not affect other guests.
 *
 * It writes below /run only, which is all that is mounted for writing when it runs.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "config/config.h"
#include "config/force.h"
#include "config/groups.h"
#include "config/host.h"
#include "config/unit.h"
#include "config/user.h"

#define ERROR 3 /* priorities of the kernel's log */
#define NOTICE 5

static void say(int priority, const char *text)
{
	FILE *f = fopen("/dev/kmsg", "ae");

	fprintf(f ?: stderr, "<%d>bulkhead-generator: %s\n", priority, text);
	if (f)
		fclose(f);
}

static void complain(const char *text)
{
	say(ERROR, text);
}

static void complain_of(const char *path, const char *what)
{
	_cleanup_free_ char *text = NULL;

	check(asprintf(&text, "%s: %s", path, what) >= 0);
	complain(text);
}

static void want(const char *dir, const char *role, const char *instance)
{
	_cleanup_free_ char *escaped = unit_escape(instance), *link = NULL, *target = NULL;

	check(asprintf(&link, "%s/bulkhead.target.wants/bulkhead-%s@%s.service", dir, role,
		      escaped) >= 0);
	check(asprintf(&target, "%s/bulkhead-%s@.service", BULKHEAD_UNITDIR, role) >= 0);
	if (symlink(target, link) < 0 && errno != EEXIST)
		complain(strerror(errno));
}

/* --- Records of users and groups: JSON User Records, one file by name and a link by number for
 * each --- */

static void write_record(const char *userdb, const char *kind, uid_t id, const char *text)
{
	_cleanup_free_ char *path = NULL, *link = NULL;
	FILE *f;

	check(asprintf(&path, "%s/bh%u.%s", userdb, id, kind) >= 0);
	check(asprintf(&link, "%s/%u.%s", userdb, id, kind) >= 0);
	f = fopen(path, "we");
	if (!f || fputs(text, f) < 0 ||
		(symlink(strrchr(path, '/') + 1, link) < 0 && errno != EEXIST))
		complain_of(path, strerror(errno));
	if (f && fclose(f) != 0)
		complain_of(path, strerror(errno));
}

static void make_user(const char *userdb, const char *guest, const char *peer)
{
	_cleanup_free_ char *user = NULL, *group = NULL;
	uid_t id = user_of(guest, peer);

	check(asprintf(&user,
		      "{\"userName\":\"bh%u\",\"uid\":%u,\"gid\":%u,\"realName\":\"Bulkhead %s:%s\","
		      "\"disposition\":\"system\",\"homeDirectory\":\"/\",\"shell\":\"/usr/sbin/nologin\","
		      "\"locked\":true}\n",
		      id, id, id, guest, peer) >= 0);
	check(asprintf(&group, "{\"groupName\":\"bh%u\",\"gid\":%u,\"disposition\":\"system\"}\n",
		      id, id) >= 0);
	write_record(userdb, "user", id, user);
	write_record(userdb, "group", id, group);
}

static void make_users(const struct config *config)
{
	const char *userdb = getenv("BULKHEAD_USERDB") ?: "/run/userdb";

	(void)mkdir(userdb, 0755);
	for (struct process process = { 0 }; user_next(config, &process);)
		make_user(userdb, config->guest, process.peer);
}

/* --- Drop-ins: what the template of a unit cannot know --- */

static FILE *open_part(const char *dir, const char *role, const char *instance)
{
	_cleanup_free_ char *escaped = unit_escape(instance), *parts = NULL, *path = NULL;
	FILE *f;

	check(asprintf(&parts, "%s/bulkhead-%s@%s.service.d", dir, role, escaped) >= 0);
	check(asprintf(&path, "%s/50-guest.conf", parts) >= 0);
	(void)mkdir(parts, 0755);
	f = fopen(path, "we");
	if (!f)
		complain(strerror(errno));
	return f;
}

static void write_groups(FILE *f, const gid_t *groups, size_t n)
{
	if (n == 0)
		return;
	fputs("SupplementaryGroups=", f);
	for (size_t i = 0; i < n; i++)
		fprintf(f, "%s%u", i ? " " : "", groups[i]);
	fputc('\n', f);
}

/* After a failover, restarting the former worker as standby is not urgent: do not compete with the
 * one that takes over. */
static void write_part(FILE *f, const struct config *config, const struct process *process)
{
	_cleanup_free_ char *guest = unit_escape(config->guest);
	uid_t user = user_of(config->guest, process->peer);
	gid_t groups[PROC_GROUPS_MAX];

	fprintf(f, "[Service]\nUser=%u\nGroup=%u\nRuntimeDirectory=bulkhead/%s/%s\n", user, user,
		config->guest, process->role->folder ?: process->peer);
	fprintf(f, "Slice=bulkhead-%s.slice\n", guest);
	write_groups(f, groups, groups_of(process->role, config, groups));
	if (process->device && process->device->standby)
		fputs("RestartSec=20ms\n", f);
}

static void want_process(const char *dir, const struct config *config,
	const struct process *process)
{
	FILE *f = open_part(dir, process->role->name, process->instance);

	want(dir, process->role->name, process->instance);
	if (!f)
		return;
	write_part(f, config, process);
	if (fclose(f) != 0)
		complain(strerror(errno));
}

/* --- Sockets --- */

/* Write KEY=value, and escape what a unit file would expand. */
static void put_value(FILE *f, const char *key, const char *value)
{
	fprintf(f, "%s=", key);
	for (; *value; value++)
		fprintf(f, *value == '%' ? "%%%%" : "%c", *value);
	fputc('\n', f);
}

/* Stopping the target stops the socket; restarting the target does not, so that VMMs always find
 * it. */
static void write_socket(FILE *f, const struct config_device *device, const char *guest)
{
	fprintf(f,
		"[Unit]\nDescription=Bulkhead: socket of %s:%s\nDocumentation=man:bulkhead-operations(7)\n"
		"StopPropagatedFrom=bulkhead.target\n\n[Socket]\n",
		guest, device->name);
	put_value(f, "ListenStream", device->socket);
	fprintf(f, "SocketMode=%04o\n", device->socket_mode);
	if (device->socket_user)
		put_value(f, "SocketUser", device->socket_user);
	else
		fprintf(f, "SocketUser=%u\n", user_of(guest, "frontend"));
	put_value(f, "SocketGroup", device->socket_group ?: PROC_SOCKET_GROUP);
	fprintf(f, "FileDescriptorName=listen.%s\nRemoveOnStop=yes\nTriggerLimitIntervalSec=0\n",
		device->name);
}

static void want_socket(const char *dir, const struct config_device *device, const char *guest)
{
	_cleanup_free_ char *instance = NULL, *escaped = NULL, *of_guest = unit_escape(guest),
			    *path = NULL, *wants = NULL, *link = NULL;
	FILE *f;

	check(asprintf(&instance, "%s:%s", guest, device->name) >= 0);
	escaped = unit_escape(instance);
	check(asprintf(&path, "%s/bulkhead-frontend@%s.socket", dir, escaped) >= 0);
	check(asprintf(&wants, "%s/bulkhead-frontend@%s.service.wants", dir, of_guest) >= 0);
	check(asprintf(&link, "%s/bulkhead-frontend@%s.socket", wants, escaped) >= 0);
	f = fopen(path, "we");
	if (!f || ((void)mkdir(wants, 0755), symlink(path, link) < 0 && errno != EEXIST))
		complain(strerror(errno));
	if (!f)
		return;
	write_socket(f, device, guest);
	fprintf(f, "Service=bulkhead-frontend@%s.service\n", of_guest);
	if (fclose(f) != 0)
		complain(strerror(errno));
}

/* --- Guests --- */

static void generate(const char *dir, const struct config *config)
{
	make_users(config);
	for (struct process process = { 0 }; process_next(config, &process);)
		want_process(dir, config, &process);
	for (size_t i = 0; i < config->n_devices; i++)
		if (!config->devices[i].client)
			want_socket(dir, &config->devices[i], config->guest);
}

/* What an operator must do about a file that is not in force. */
static void explain(const struct host_guest *guest)
{
	_cleanup_free_ char *text = NULL;
	char *line, *rest = guest->error;
	bool served = guest->verdict == HOST_KEEP;
	const char *what = guest->gone ? "was removed" : guest->error ? "is faulty" : "has changed";

	while (!guest->gone && (line = strsep(&rest, "\n")))
		complain(line);
	if (!served)
		return;
	check(asprintf(&text,
		      "%s %s; guest %s keeps the configuration in force until 'bulkheadctl apply %s'",
		      guest->path, what, guest->name, guest->name) >= 0);
	say(guest->error && !guest->gone ? ERROR : NOTICE, text);
}

static void put_in_force(const char *runtime_dir, const struct host_guest *guest)
{
	int r = 0;

	if (guest->verdict == HOST_NONE && guest->gone)
		force_drop(runtime_dir, guest->name);
	if (guest->verdict == HOST_TAKE && (!guest->copy || !force_is(guest->file, guest->copy)))
		r = force_put(runtime_dir, guest->file);
	if (r < 0)
		complain_of(runtime_dir, strerror(-r));
}

static void serve(const char *dir, const char *runtime_dir, struct host_guest *guest)
{
	put_in_force(runtime_dir, guest);
	if (guest->verdict != HOST_NONE)
		generate(dir, host_config(guest));
	if (guest->verdict != HOST_TAKE)
		explain(guest);
}

int main(int argc, char *argv[])
{
	const char *dir = argc > 1 ? argv[1] : "/tmp";
	const char *confdir = getenv("BULKHEAD_CONFDIR") ?: BULKHEAD_CONFDIR;
	const char *runtime_dir = getenv("BULKHEAD_RUNTIME") ?: BULKHEAD_RUNDIR;
	_cleanup_free_ char *wants = NULL;
	struct host host = { 0 };

	check(asprintf(&wants, "%s/bulkhead.target.wants", dir) >= 0);
	host_load(&host, confdir, runtime_dir);
	host_judge(&host);
	if (host.n_guests)
		(void)mkdir(wants, 0755);
	for (size_t i = 0; i < host.n_guests; i++)
		serve(dir, runtime_dir, &host.guests[i]);
	host_deinit(&host);
	return EXIT_SUCCESS;
}
