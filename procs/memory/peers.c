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

struct served *peer_any_device(struct memory *memory, const char *name)
{
	for (size_t i = 0; i < memory->n_devices; i++)
		if (strcmp(memory->devices[i].config->name, name) == 0)
			return &memory->devices[i];
	return NULL;
}

struct served *peer_device(struct memory *memory, const char *peer, const char *name)
{
	const struct peer *asking = peer_find(memory, peer);
	struct served *device = asking ? peer_any_device(memory, name) : NULL;

	if (!device || (asking->role->asks & (ROLE_FRONTEND | ROLE_SNAPSHOT)))
		return device;
	return asking->device == device ? device : NULL;
}
