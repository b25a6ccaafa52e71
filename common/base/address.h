#pragma once

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

/** address_fill() - fill in the address of the UNIX socket at path
 *
 * Errors: 0 | -ENAMETOOLONG: path and its final 0 do not fit; *ret_addr is untouched. */
static inline int address_fill(struct sockaddr_un *ret_addr, const char *path)
{
	size_t n = strlen(path) + 1;

	if (n > sizeof(ret_addr->sun_path))
		return -ENAMETOOLONG;
	*ret_addr = (struct sockaddr_un){ .sun_family = AF_UNIX };
	memcpy(ret_addr->sun_path, path, n);
	return 0;
}
