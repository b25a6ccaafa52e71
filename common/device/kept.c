/* Descriptors that outlive the process: the memory manager keeps them by name. */
#include "device/core.h"

#include <stdio.h>
#include <string.h>

#include "base/cleanup.h"
#include "fd/fdstore.h"

int device_keep(struct device *device, const char *name, int fd)
{
	return vault_keep(device->core->vault, name, fd);
}

int device_unkeep(struct device *device, const char *name)
{
	return vault_unkeep(device->core->vault, name);
}

int device_take_kept(struct device *device, const char *name)
{
	struct vault_attachment *attachment = &device->core->attachment;
	char passed[256];

	for (size_t i = 0; i < attachment->n_kept; i++)
		if (strcmp(attachment->kept_names[i], name) == 0 && attachment->kept_fds[i] >= 0)
			return fd_steal(&attachment->kept_fds[i]);
	snprintf(passed, sizeof(passed), "%s.%s", name, device->config->name);
	return fdstore_take(passed);
}
