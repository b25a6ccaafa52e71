#include "fd/fdset.h"

#include "base/cleanup.h"

void fdset_deinit(struct fdset *set)
{
	for (size_t i = 0; i < set->n_fds; i++)
		set->fds[i] = fd_close(set->fds[i]);
	set->n_fds = 0;
}

int fdset_steal(struct fdset *set, size_t i)
{
	return i < set->n_fds ? fd_steal(&set->fds[i]) : -1;
}
