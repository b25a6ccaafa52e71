#include "lib/notify.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int notify_listen(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	socklen_t len = sizeof(addr);
	char name[sizeof(addr.sun_path) + 1];
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	/* an address with only the family requests an abstract name: see unix(7), autobind */
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(sa_family_t)) < 0 ||
		getsockname(fd, (struct sockaddr *)&addr, &len) < 0) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	snprintf(name, sizeof(name), "@%.*s",
		(int)(len - offsetof(struct sockaddr_un, sun_path) - 1), addr.sun_path + 1);
	if (setenv("NOTIFY_SOCKET", name, 1) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}
