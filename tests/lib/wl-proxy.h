#ifndef TESTS_LIB_WL_PROXY_H
#define TESTS_LIB_WL_PROXY_H

/*
 * A Wayland socket in the guest whose clients' bytes and descriptors are carried over VFDs, as
 * sommelier does for ordinary clients, but without a look into the protocol. A client's shared
 * memory is copied into its VFD's before each of the client's messages, so that it is there
 * when the compositor is told of it.
 */

#include "wl-guest.h"

#define WL_PROXY_VFDS 600

#define WL_PROXY_SOCKETS 4

struct wl_proxy_socket {
	int fd;           /* clients connect to it; owned by the caller */
	const char *name; /* of the compositor; NULL: the unnamed one */
};

struct wl_proxy {
	struct wl_link *link;
	struct wl_proxy_socket sockets[WL_PROXY_SOCKETS];
	size_t n_sockets;
	bool verbose; /* tells of each VFD on stderr */
	uint32_t next_id;
	struct wl_proxy_vfd *vfds[WL_PROXY_VFDS];
	size_t n_vfds;
};

/* one more socket, for PATH or PATH=NAME; 0 or a negative errno */
int wl_proxy_listen(struct wl_proxy *p, char *path);
/* serves clients for as long as the link works; the errno of its failure */
int wl_proxy_run(struct wl_proxy *p);

#endif
