/*
 * The product's own groups are read directly from /etc/group: the name service may load libraries,
 * use the network, and take longer than the rest of a process's start.
 */
#include "config/groups.h"

#include <grp.h>
#include <stdio.h>
#include <string.h>

#include "config/user.h"

static bool find(const char *name, gid_t *ret_group)
{
	FILE *f = fopen("/etc/group", "re");
	const struct group *group = NULL;

	while (f && (group = fgetgrent(f)) && strcmp(group->gr_name, name) != 0)
		;
	if (group)
		*ret_group = group->gr_gid;
	if (f)
		fclose(f);
	return group;
}

static size_t groups_of_peers(const struct config *config, gid_t *groups)
{
	size_t n = 0;

	for (struct process peer = { 0 }; user_next(config, &peer);)
		groups[n++] = user_of(config->guest, peer.peer);
	return n;
}

/* A group configured by the operator may be known only to the name service. */
static bool find_socket_group(const struct config_device *device, gid_t *ret_group)
{
	const struct group *group;

	if (!device->socket_group)
		return find(PROC_SOCKET_GROUP, ret_group);
	group = getgrnam(device->socket_group);
	if (group)
		*ret_group = group->gr_gid;
	return group;
}

static size_t groups_of_vmms(const struct config *config, gid_t *groups)
{
	size_t n = 0;

	for (size_t i = 0; i < config->n_devices; i++)
		if (config->devices[i].client)
			n += find_socket_group(&config->devices[i], &groups[n]);
	return n;
}

size_t groups_of(const struct role *role, const struct config *config, gid_t *groups)
{
	switch (role->groups) {
	case GROUPS_OF_PEERS:
		return groups_of_peers(config, groups);
	case GROUPS_OF_VMMS:
		return groups_of_vmms(config, groups);
	case NO_GROUPS:
		break;
	}
	return 0;
}
