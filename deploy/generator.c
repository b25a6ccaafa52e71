/*
 * The systemd generator: for each /etc/bulkhead/GUEST.conf it has bulkhead.target want the guest's memory manager,
 * its frontend, and a worker for each device, or two where one stands by. The frontend wants a socket unit for
 * each device that VMMs connect to: systemd listens, whether the frontend runs or not. A file with errors is
 * reported, line by line, and is nobody else's trouble.
 */
#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "config/config.h"

static void complain(const char *text)
{
	FILE *f = fopen("/dev/kmsg", "ae");

	fprintf(f ?: stderr, "<3>bulkhead-generator: %s\n", text);
	if (f)
		fclose(f);
}

/* As systemd escapes instance names: what is no letter, digit, ':', '_' or '.' becomes \xNN. */
static char *escape(const char *name)
{
	char *text = malloc(4 * strlen(name) + 1), *at = text;

	check(text);
	for (; *name; name++) {
		if ((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
			(*name >= '0' && *name <= '9') || strchr(":_.", *name))
			*at++ = *name;
		else
			at += sprintf(at, "\\x%02x", (unsigned char)*name);
	}
	*at = '\0';
	return text;
}

static void want(const char *dir, const char *role, const char *guest, const char *device)
{
	_cleanup_free_ char *instance = NULL, *escaped = NULL, *link = NULL, *target = NULL;

	check(asprintf(&instance, "%s%s%s", guest, device ? ":" : "", device ?: "") >= 0);
	escaped = escape(instance);
	check(asprintf(&link, "%s/bulkhead.target.wants/bulkhead-%s@%s.service", dir, role, escaped) >= 0);
	check(asprintf(&target, "%s/bulkhead-%s@.service", BULKHEAD_UNITDIR, role) >= 0);
	if (symlink(target, link) < 0 && errno != EEXIST)
		complain(strerror(errno));
}

/* Of a pair one serves: that systemd builds the other's sandbox anew can wait until it has the guest's rings. */
static void let_it_take_over(const char *dir, const char *role, const char *guest, const char *device)
{
	_cleanup_free_ char *instance = NULL, *escaped = NULL, *parts = NULL, *path = NULL;
	FILE *f;

	check(asprintf(&instance, "%s:%s", guest, device) >= 0);
	escaped = escape(instance);
	check(asprintf(&parts, "%s/bulkhead-%s@%s.service.d", dir, role, escaped) >= 0);
	check(asprintf(&path, "%s/50-standby.conf", parts) >= 0);
	(void)mkdir(parts, 0755);
	f = fopen(path, "we");
	if (!f || fprintf(f, "[Service]\nRestartSec=20ms\n") < 0)
		complain(strerror(errno));
	if (f && fclose(f) != 0)
		complain(strerror(errno));
}

static void want_worker(const char *dir, const struct config_device *device, const char *guest)
{
	_cleanup_free_ char *second = NULL;

	want(dir, device->type, guest, device->name);
	if (!device->standby)
		return;
	check(asprintf(&second, "%s:standby", device->name) >= 0);
	want(dir, device->type, guest, second);
	let_it_take_over(dir, device->type, guest, device->name);
	let_it_take_over(dir, device->type, guest, second);
}

/* What stands behind a '=' in a unit file. */
static void put_value(FILE *f, const char *key, const char *value)
{
	fprintf(f, "%s=", key);
	for (; *value; value++)
		fprintf(f, *value == '%' ? "%%%%" : "%c", *value);
	fputc('\n', f);
}

/* The end of the target ends the socket; its restart does not, so that nobody finds it gone. */
static void write_socket(FILE *f, const struct config_device *device, const char *guest)
{
	fprintf(f, "[Unit]\nDescription=Bulkhead: socket of %s:%s\nDocumentation=man:bulkhead-operations(7)\n"
		"StopPropagatedFrom=bulkhead.target\n\n[Socket]\n", guest, device->name);
	put_value(f, "ListenStream", device->socket);
	fprintf(f, "SocketMode=0660\nSocketUser=bulkhead-frontend\n");
	put_value(f, "SocketGroup", device->socket_group ?: "bulkhead");
	fprintf(f, "FileDescriptorName=listen.%s\nRemoveOnStop=yes\nTriggerLimitIntervalSec=0\n", device->name);
}

static void want_socket(const char *dir, const struct config_device *device, const char *guest)
{
	_cleanup_free_ char *instance = NULL, *escaped = NULL, *of_guest = escape(guest), *path = NULL, *wants = NULL,
		*link = NULL;
	FILE *f;

	check(asprintf(&instance, "%s:%s", guest, device->name) >= 0);
	escaped = escape(instance);
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

static void generate(const char *dir, const char *path)
{
	_cleanup_free_ char *error = NULL;
	struct config *config = NULL;
	char *line, *rest;

	if (config_load(path, &config, &error) < 0) {
		for (rest = error; (line = strsep(&rest, "\n"));)
			complain(line);
		return;
	}
	want(dir, "memory", config->guest, NULL);
	want(dir, "frontend", config->guest, NULL);
	for (size_t i = 0; i < config->n_devices; i++) {
		const struct config_device *device = &config->devices[i];

		want_worker(dir, device, config->guest);
		if (!device->client)
			want_socket(dir, device, config->guest);
	}
	config_free(config);
}

int main(int argc, char *argv[])
{
	const char *dir = argc > 1 ? argv[1] : "/tmp";
	const char *confdir = getenv("BULKHEAD_CONFDIR") ?: BULKHEAD_CONFDIR;
	_cleanup_free_ char *pattern = NULL, *wants = NULL;
	glob_t found = { 0 };

	check(asprintf(&pattern, "%s/*.conf", confdir) >= 0);
	check(asprintf(&wants, "%s/bulkhead.target.wants", dir) >= 0);
	if (glob(pattern, 0, NULL, &found) == 0) {
		(void)mkdir(wants, 0755);
		for (size_t i = 0; i < found.gl_pathc; i++)
			generate(dir, found.gl_pathv[i]);
	}
	globfree(&found);
	return EXIT_SUCCESS;
}
