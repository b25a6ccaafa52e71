/*
 * A guest has the processes of the configuration that it gets (config/host.h), whatever its file
 * says meanwhile; the file's faults are told beside.
 */
#include "look.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "check.h"
#include "launched.h"

void look_open(struct look *look, const char *runtime_dir, const char *config_dir)
{
	*look = (struct look){ .runtime_dir = runtime_dir };
	look->config_dir = check_folder(runtime_dir, config_dir);
	check_host(&look->host, runtime_dir, config_dir);
	host_judge(&look->host);
	look->units_error = check_is_usual(runtime_dir) ? units_read(&look->units) : -ENOENT;
	look->guests_error = guests_find(runtime_dir, look->config_dir,
		look->units_error ? NULL : &look->units, &look->guests);
}

static void take_faults(struct seen *seen, const char *error)
{
	while (*error) {
		size_t n = strcspn(error, "\n");

		seen_fault(seen, "%.*s", (int)n, error);
		error += n + (error[n] == '\n');
	}
}

static void take_file(const struct look *look, struct seen *seen)
{
	const struct host_guest *guest = host_find(&look->host, seen->name);

	if (!guest || (guest->gone && !guest->runs))
		return;
	if (!guest->gone) {
		seen->file = strdup(guest->path);
		check(seen->file);
		take_faults(seen, guest->error ?: "");
	}
	seen_config(seen, host_config(guest));
}

static void look_at_units(const struct look *look, struct seen *seen)
{
	if (look->units_error == 0 && (seen->file || units_has(&look->units, seen->name)))
		units_look(&look->units, seen);
}

void look_guest(const struct look *look, const char *name, struct seen *ret)
{
	*ret = (struct seen){ .name = strdup(name) };
	check(ret->name);
	take_file(look, ret);
	if (!launched_look(look->runtime_dir, ret))
		look_at_units(look, ret);
	if (ret->hidden && ret->manager == SEEN_NOBODY)
		seen_forget_processes(ret);
}

void look_close(struct look *look)
{
	guests_deinit(&look->guests);
	units_deinit(&look->units);
	host_deinit(&look->host);
}
