/*
 * A guest's configuration file of arbitrary bytes. It is loaded or refused as a whole; what is
 * loaded keeps the rules, and a refusal has a line that names the file for each mistake.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/check.h"
#include "config/config.h"
#include "input.h"

static char dir[] = "/tmp/fuzz-config-XXXXXX";
static char path[64];

static void remove_dir(void)
{
	(void)unlink(path);
	(void)rmdir(dir);
}

static void write_file(const uint8_t *data, size_t n)
{
	int fd;

	if (!*path) {
		check(mkdtemp(dir));
		snprintf(path, sizeof(path), "%s/vm1.conf", dir);
		check(atexit(remove_dir) == 0);
	}
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	check(fd >= 0 && write(fd, data, n) == (ssize_t)n);
	close(fd);
}

static bool is_other(const struct config_device *a, const struct config_device *b)
{
	return strcmp(a->name, b->name) != 0 && strcmp(a->socket, b->socket) != 0;
}

static void check_device(const struct config *config, size_t i)
{
	const struct config_device *device = &config->devices[i];

	check(config_check_name(device->name) && device->type && device->socket[0] == '/');
	check(config_device(config, device->name) == device);
	for (size_t k = 0; k < device->n_values; k++)
		check(device->values[k].member ||
			config_value(device, device->values[k].key) == &device->values[k]);
	for (size_t k = 0; k < i; k++)
		check(is_other(device, &config->devices[k]));
}

static void check_config(const struct config *config)
{
	check(strcmp(config->guest, "vm1") == 0 && strcmp(config->path, path) == 0);
	check(config->n_devices <= CONFIG_DEVICES_MAX);
	for (size_t i = 0; i < config->n_devices; i++)
		check_device(config, i);
}

static void check_error(const char *error)
{
	check(error && *error);
	for (const char *line = error; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		check(!*line || strncmp(line, path, strlen(path)) == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct config *config = NULL;
	char *error = NULL;
	int r;

	write_file(data, n);
	r = config_load(path, &config, &error);
	check(r == 0 || r == -EINVAL);
	if (r == 0) {
		check(!error);
		check_config(config);
	} else {
		check_error(error);
	}
	config_free(config);
	free(error);
	return 0;
}
