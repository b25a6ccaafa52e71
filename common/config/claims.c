/*
 * A claim is a text that is the same for the same thing, however it is written. A socket's folder
 * is resolved as far as it exists: symbolic links, '.', '..' and repeated slashes disappear. The
 * socket itself is not resolved, since it is made anew.
 */
#include "config/claims.h"

#include <errno.h>
#include <limits.h>
#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "config/keys.h"
#include "config/roles.h"

/** struct claim - one entry of the tree */
struct claim {
	char *what;
	char *who; /* GUEST:DEVICE */
};

/* --- Paths --- */

static char *join(const char *folder, const char *name, size_t n)
{
	char *path;

	check(asprintf(&path, "%s/%.*s", strcmp(folder, "/") == 0 ? "" : folder, (int)n, name) >=
		0);
	return path;
}

/* path is resolved already, so the folder above it is what its text says. */
static void go_up(char *path)
{
	char *slash = strrchr(path, '/');

	slash[slash == path ? 1 : 0] = '\0';
}

static char *go_down(char *path, const char *name, size_t n, bool last)
{
	char *next = join(path, name, n), *real = last ? NULL : realpath(next, NULL);

	free(path);
	if (!real)
		return next;
	free(next);
	return real;
}

static char *resolve(const char *path)
{
	char *done = strdup("/");

	check(done);
	for (const char *name = path + strspn(path, "/"); *name;) {
		size_t n = strcspn(name, "/");
		const char *next = name + n + strspn(name + n, "/");

		if (n == 2 && strncmp(name, "..", 2) == 0)
			go_up(done);
		else if (n != 1 || *name != '.')
			done = go_down(done, name, n, !*next);
		name = next;
	}
	return done;
}

/* --- What a device wants --- */

static const char *held_by(const struct config_device *device)
{
	const struct role *role = role_of_type(device->type);

	return role->type->holds ? role->type->holds(device) : NULL;
}

static char *socket_claim(const struct config_device *device)
{
	_cleanup_free_ char *path = resolve(device->socket);
	char *what;

	check(asprintf(&what, "socket %s", path) >= 0);
	return what;
}

static char *type_claim(const struct config_device *device)
{
	const char *value = held_by(device);
	char *what = NULL;

	if (value)
		check(asprintf(&what, "%s %s", role_of_type(device->type)->type->holds_key,
			      value) >= 0);
	return what;
}

static char *(*const kinds[])(const struct config_device *) = { socket_claim, type_claim };

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

const char *claims_same(const struct config_device *a, const struct config_device *b, bool held)
{
	_cleanup_free_ char *path = resolve(a->socket), *other = resolve(b->socket);
	const char *value;

	if (strcmp(path, other) == 0)
		return "socket";
	if (!held || strcmp(a->type, b->type) != 0)
		return NULL;
	value = held_by(a);
	return value && held_by(b) && strcmp(value, held_by(b)) == 0
		? role_of_type(a->type)->type->holds_key
		: NULL;
}

/* --- All devices --- */

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct claim *)a)->what, ((const struct claim *)b)->what);
}

static void free_claim(void *data)
{
	struct claim *claim = data;

	free(claim->what);
	free(claim->who);
	free(claim);
}

static bool is_free(const struct claims *claims, const struct config *config,
	const struct config_device *device, struct clash *ret_clash)
{
	for (size_t i = 0; i < N_KINDS; i++) {
		struct claim key = { .what = kinds[i](device) };
		struct claim *const *found = key.what ? tfind(&key, &claims->tree, compare) : NULL;

		if (!found) {
			free(key.what);
			continue;
		}
		*ret_clash = (struct clash){ .device = device->name,
			.line = kinds[i] == socket_claim ? device->socket_line : device->line,
			.what = key.what,
			.other = strdup((*found)->who) };
		check(ret_clash->other);
		return false;
	}
	return true;
}

static void add(struct claims *claims, const struct config *config,
	const struct config_device *device)
{
	for (size_t i = 0; i < N_KINDS; i++) {
		struct claim *claim = calloc(1, sizeof(*claim));

		check(claim);
		claim->what = kinds[i](device);
		check(asprintf(&claim->who, "%s:%s", config->guest, device->name) >= 0);
		if (!claim->what)
			free_claim(claim);
		else
			check(tsearch(claim, &claims->tree, compare));
	}
}

int claims_add(struct claims *claims, const struct config *config, struct clash *ret_clash)
{
	for (size_t i = 0; i < config->n_devices; i++)
		if (!is_free(claims, config, &config->devices[i], ret_clash))
			return -EEXIST;
	for (size_t i = 0; i < config->n_devices; i++)
		add(claims, config, &config->devices[i]);
	return 0;
}

void claims_deinit(struct claims *claims)
{
	tdestroy(claims->tree, free_claim);
	claims->tree = NULL;
}

void clash_deinit(struct clash *clash)
{
	free(clash->what);
	free(clash->other);
	*clash = (struct clash){ 0 };
}

char *clash_text(const struct clash *clash, const struct config *config)
{
	char *text;

	check(asprintf(&text,
		      "%s:%u: [device %s] has the %s, which is that of %s already; each device needs its own",
		      config->path, clash->line, clash->device, clash->what, clash->other) >= 0);
	return text;
}
