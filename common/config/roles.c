/* The table of processes, and the processes that a guest's file asks for. */
#include "config/roles.h"

#include <stdio.h>
#include <string.h>

#include "config/keys.h"

#define WORKER_FOLDER_MODE 0710

const struct role roles[N_ROLES] = {
#define PROCESS(name_, asks_, groups_, folder_, mode_)                                             \
	{ .name = #name_,                                                                          \
		.asks = asks_,                                                                     \
		.groups = groups_,                                                                 \
		.folder = folder_,                                                                 \
		.folder_mode = mode_ },
#define DEVICE(name_, may_stand_by_)                                                               \
	{ .name = #name_,                                                                          \
		.per_device = true,                                                                \
		.may_stand_by = may_stand_by_,                                                     \
		.asks = ROLE_WORKER,                                                               \
		.folder_mode = WORKER_FOLDER_MODE,                                                 \
		.type = &config_type_##name_ },
#include "config/roles.def"
#undef PROCESS
#undef DEVICE
};

const struct role *role_find(const char *name)
{
	for (size_t i = 0; i < N_ROLES; i++)
		if (strcmp(roles[i].name, name) == 0)
			return &roles[i];
	return NULL;
}

const struct role *role_of_type(const char *type)
{
	const struct role *role = role_find(type);

	return role && role->per_device ? role : NULL;
}

const struct role *role_usual(void)
{
	const struct role *role = roles;

	while (!role->per_device)
		role++;
	return role;
}

size_t role_types(const char *names[N_ROLES])
{
	size_t n = 0;

	for (size_t i = 0; i < N_ROLES; i++)
		if (roles[i].per_device)
			names[n++] = roles[i].name;
	return n;
}

/* --- The processes of a guest --- */

static const struct role *next_of_guest(const struct role *role)
{
	for (role = role ? role + 1 : roles; role < roles + N_ROLES; role++)
		if (!role->per_device)
			return role;
	return NULL;
}

/* Go to the second instance of the same device, or to the first instance of the next device. */
static bool next_of_devices(const struct config *config, struct process *process)
{
	const struct config_device *device = process->device;

	process->second = device && device->standby && !process->second;
	if (!process->second)
		device = device ? device + 1 : config->devices;
	if (device == config->devices + config->n_devices)
		return false;
	process->device = device;
	process->role = role_of_type(device->type);
	return true;
}

static void name_process(const struct config *config, struct process *process)
{
	const char *name = process->device ? process->device->name : process->role->name;

	snprintf(process->peer, sizeof(process->peer), "%s%s", name,
		process->second ? PEER_STANDBY : "");
	snprintf(process->instance, sizeof(process->instance), "%s%s%s%s", config->guest,
		process->device ? ":" : "", process->device ? name : "",
		process->second ? INSTANCE_STANDBY : "");
}

bool process_next(const struct config *config, struct process *process)
{
	const struct role *role = process->device ? NULL : next_of_guest(process->role);

	if (role)
		process->role = role;
	else if (!next_of_devices(config, process))
		return false;
	name_process(config, process);
	return true;
}

void process_peer(const char *role, const char *instance, char *peer, size_t n)
{
	const char *device = strchr(instance, ':'),
		   *second = device ? strchr(device + 1, ':') : NULL;
	size_t len;

	if (!device) {
		snprintf(peer, n, "%s", role);
		return;
	}
	device++;
	len = second ? (size_t)(second - device) : strlen(device);
	snprintf(peer, n, "%.*s%s", (int)len, device, second ? PEER_STANDBY : "");
}
