#include "peers.h"

#include <string.h>

struct peer *peer_find(struct memory *memory, const char *name)
{
	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].name && strcmp(memory->peers[i].name, name) == 0)
			return &memory->peers[i];
	return NULL;
}

struct peer *peer_frontend(struct memory *memory)
{
	for (size_t i = 0; i < memory->n_peers; i++)
		if (memory->peers[i].role->asks & ROLE_FRONTEND)
			return &memory->peers[i];
	return NULL;
}

struct served *peer_device(struct memory *memory, const char *peer, const char *name)
{
	const struct peer *asking = peer_find(memory, peer);

	for (size_t i = 0; asking && i < memory->n_devices; i++) {
		struct served *device = &memory->devices[i];

		if (strcmp(device->config->name, name) == 0)
			return asking->role->asks == ROLE_FRONTEND || asking->device == device
				? device
				: NULL;
	}
	return NULL;
}
