/*
 * The systemd generator: for each /etc/bulkhead/GUEST.conf it has bulkhead.target want the guest's memory manager,
 * its frontend, and a worker for each device, or two where one stands by. A file with errors is reported, line by line, and is nobody else's trouble.
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
		_cleanup_free_ char *second = NULL;

		want(dir, device->type, config->guest, device->name);
		check(asprintf(&second, "%s:standby", device->name) >= 0);
		if (device->standby)
			want(dir, device->type, config->guest, second);
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
