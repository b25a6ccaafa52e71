/*
 * Descriptors out of the vault, many at a time: a record names hundreds, and each message of the side link
 * carries as many as the kernel lets it.
 */
#include "device/wants.h"

#include "base/bytes.h"
#include "base/cleanup.h"

void wants_deinit(struct wants *wants)
{
	for (size_t i = 0; i < wants->n; i++)
		fd_close(wants->fds[i]);
	wants->n = 0;
}

void wants_add(struct wants *wants, uint64_t token)
{
	if (token == 0 || wants->n >= ARRAY_SIZE(wants->tokens))
		return;
	wants->tokens[wants->n] = token;
	wants->fds[wants->n++] = -1;
}

int wants_redeem(struct wants *wants, struct device *device)
{
	for (size_t i = 0; i < wants->n; i += FDLINK_FDS_MAX) {
		size_t n = MIN(wants->n - i, (size_t)FDLINK_FDS_MAX);
		_cleanup_fdset_ struct fdset set = FDSET_INIT;
		int r = vault_redeem(device->core->vault, device->config->name, &wants->tokens[i], n, &set);

		if (r < 0)
			return r;
		for (size_t j = 0; j < n; j++)
			wants->fds[i + j] = fdset_steal(&set, j);
	}
	return 0;
}

int wants_find(const struct wants *wants, uint64_t token)
{
	for (size_t i = 0; i < wants->n; i++)
		if (wants->tokens[i] == token)
			return wants->fds[i];
	return -1;
}

int wants_take(struct wants *wants, uint64_t token)
{
	for (size_t i = 0; i < wants->n; i++)
		if (wants->tokens[i] == token && wants->fds[i] >= 0)
			return fd_steal(&wants->fds[i]);
	return -1;
}
