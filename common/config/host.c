/*
 * Clashes are judged over what all guests would get. A guest whose file is refused falls back to
 * what is in force. Where that clashes with a file that was accepted before, all is judged again.
 * Each round refuses one file at least, and hardly ever is there a second one, even if a thousand
 * files want the same socket.
 */
#include "config/host.h"

#include <errno.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "config/claims.h"
#include "config/force.h"
#include "config/user.h"

/* --- Reading --- */

static char *guest_of(const char *path)
{
	const char *base = strrchr(path, '/') ? strrchr(path, '/') + 1 : path;
	size_t n = strlen(base);
	char *name = strndup(base, n > 5 && strcmp(base + n - 5, ".conf") == 0 ? n - 5 : n);

	check(name);
	return name;
}

static void read_guest(const struct host *host, struct host_guest *guest)
{
	int r = config_load(guest->path, &guest->file, &guest->error);

	/* a link that leads nowhere is a fault */
	guest->gone = r == -ENOENT && readlink(guest->path, (char[1]){ 0 }, 1) < 0;
	guest->copy = force_load(host->runtime_dir, guest->name);
	guest->runs = guest->copy && force_runs(host->runtime_dir, guest->copy);
}

static struct host_guest *make_room(struct host *host)
{
	host->guests = reallocarray(host->guests, host->n_guests + 1, sizeof(*host->guests));
	check(host->guests);
	host->guests[host->n_guests] = (struct host_guest){ 0 };
	return &host->guests[host->n_guests++];
}

static void add(struct host *host, char *name, const char *path)
{
	struct host_guest *guest = make_room(host);

	guest->name = name;
	guest->path = strdup(path);
	check(guest->path);
	read_guest(host, guest);
}

static void add_all(struct host *host, const char *folder, const char *confdir)
{
	_cleanup_free_ char *pattern = NULL;
	glob_t found = { 0 };

	check(asprintf(&pattern, "%s/*.conf", folder) >= 0);
	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++) {
			_cleanup_free_ char *name = guest_of(found.gl_pathv[i]), *path = NULL;

			check(asprintf(&path, "%s/%s.conf", confdir ?: host->runtime_dir, name) >=
				0);
			if (!host_find(host, name))
				add(host, ptr_steal(&name), path);
		}
	globfree(&found);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct host_guest *)a)->name, ((const struct host_guest *)b)->name);
}

static void sort(struct host *host)
{
	if (host->n_guests)
		qsort(host->guests, host->n_guests, sizeof(*host->guests), by_name);
}

void host_load(struct host *host, const char *confdir, const char *runtime_dir)
{
	_cleanup_free_ char *copies = NULL;

	check(asprintf(&copies, "%s/.config", runtime_dir) >= 0);
	host->runtime_dir = runtime_dir;
	if (confdir)
		add_all(host, confdir, confdir);
	add_all(host, copies, confdir);
	sort(host);
}

struct host_guest *host_find(const struct host *host, const char *name)
{
	for (size_t i = 0; i < host->n_guests; i++)
		if (strcmp(host->guests[i].name, name) == 0)
			return &host->guests[i];
	return NULL;
}

static void forget(struct host_guest *guest)
{
	config_free(guest->file);
	config_free(guest->copy);
	free(guest->name);
	free(guest->path);
	free(guest->error);
}

void host_set_path(struct host *host, struct host_guest *guest, const char *path)
{
	char *name = ptr_steal(&guest->name);

	forget(guest);
	*guest = (struct host_guest){ .name = name, .path = strdup(path) };
	check(guest->path);
	read_guest(host, guest);
}

void host_add(struct host *host, const char *path)
{
	char *name = guest_of(path);
	struct host_guest *guest = host_find(host, name);

	if (guest) {
		forget(guest);
		*guest = host->guests[--host->n_guests];
	}
	add(host, name, path);
	host->guests[host->n_guests - 1].chosen = true;
	sort(host);
}

/* --- Deciding --- */

static enum host_verdict wish(const struct host_guest *guest)
{
	enum host_verdict former = guest->copy ? HOST_KEEP : HOST_NONE;

	if (guest->gone)
		return guest->chosen || !guest->runs ? HOST_NONE : former;
	if (!guest->file || guest->refused)
		return former;
	return guest->chosen || !guest->runs || force_is(guest->file, guest->copy) ? HOST_TAKE
										   : former;
}

const struct config *host_config(const struct host_guest *guest)
{
	return guest->verdict == HOST_TAKE    ? guest->file
		: guest->verdict == HOST_KEEP ? guest->copy
					      : NULL;
}

static bool changes(const struct host_guest *guest)
{
	return guest->verdict == HOST_TAKE && (!guest->copy || !force_is(guest->file, guest->copy));
}

static void blame(struct host_guest *guest, char *line)
{
	char *all;

	check(asprintf(&all, "%s%s%s", guest->error ?: "", guest->error ? "\n" : "", line) >= 0);
	free(guest->error);
	free(line);
	guest->error = all;
}

static char *judge_users(struct users *users, const struct config *config)
{
	const char *own, *other;
	char *text = NULL;

	if (users_add(users, config, &own, &other) < 0)
		check(asprintf(&text,
			      "%s: user %u, which its %s gets by its name, is that of %s already; rename this guest "
			      "(or the device)",
			      config->path, user_of(config->guest, own), own, other) >= 0);
	return text;
}

static char *judge_claims(struct claims *claims, const struct config *config)
{
	struct clash clash = { 0 };
	char *text;

	if (claims_add(claims, config, &clash) == 0)
		return NULL;
	text = clash_text(&clash, config);
	clash_deinit(&clash);
	return text;
}

/* What a refused guest keeps takes its place among what was judged before. Returns whether it fits
 * there. */
static bool fall_back(struct host_guest *guest, struct claims *claims, struct users *users)
{
	_cleanup_free_ char *clash = NULL;

	guest->verdict = wish(guest);
	if (guest->verdict == HOST_KEEP)
		clash = judge_claims(claims, guest->copy) ?: judge_users(users, guest->copy);
	return !clash;
}

/* Returns whether all must be judged again. A file that does not change is kept even where it
 * clashes. */
static bool judge_one(struct host_guest *guest, bool changed, struct claims *claims,
	struct users *users)
{
	const struct config *config = host_config(guest);
	char *fault = judge_claims(claims, config);
	bool noted = !fault;

	fault = fault ?: judge_users(users, config);
	if (!fault)
		return false;
	if (!changed) {
		free(fault);
		return false;
	}
	blame(guest, fault);
	guest->refused = true;
	/* claims that were noted and do not hold are in the way */
	return noted || !fall_back(guest, claims, users);
}

static bool judge_some(struct host *host, bool changed, struct claims *claims, struct users *users)
{
	for (size_t i = 0; i < host->n_guests; i++) {
		struct host_guest *guest = &host->guests[i];

		if (host_config(guest) && changes(guest) == changed &&
			judge_one(guest, changed, claims, users))
			return true;
	}
	return false;
}

void host_judge(struct host *host)
{
	bool again = true;

	while (again) {
		struct claims claims = { 0 };
		struct users users = { 0 };

		for (size_t i = 0; i < host->n_guests; i++)
			host->guests[i].verdict = wish(&host->guests[i]);
		again = judge_some(host, false, &claims, &users) ||
			judge_some(host, true, &claims, &users);
		claims_deinit(&claims);
		users_deinit(&users);
	}
}

void host_deinit(struct host *host)
{
	for (size_t i = 0; i < host->n_guests; i++)
		forget(&host->guests[i]);
	free(host->guests);
	*host = (struct host){ 0 };
}
