#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "header.h"

/* What a back-end of the network device is: a table. */

struct net;
struct net_pair;

enum rx_status {
	RX_MORE,    /* the turn is over, there may be more */
	RX_IDLE,    /* no frame is there: wait for the back-end */
	RX_STARVED, /* too few buffers: wait for the driver's kick */
	RX_OFF,     /* the ring does not run, or is disabled */
};

/** struct net_backend - where frames go to and come from */
struct net_backend {
	const char *name;
	uint64_t features; /* offloads it can take and give; open() may take some away */
	int (*open)(struct net *net);
	void (*close)(struct net *net);
	/** negotiated() - features or guest offloads changed; the device is paused */
	void (*negotiated)(struct net *net);
	/** attach() - the pair is in use, or no more; its group is paused */
	void (*attach)(struct net_pair *pair, bool in_use);
	/** send() - a frame of the guest's. 0 | -EAGAIN: not now, the ring waits | other:
	 * dropped */
	int (*send)(struct net_pair *pair, struct net_hdr *hdr, struct iovec *iov, unsigned int n,
		size_t frame_bytes);
	/** receive() - a turn of frames into the receive ring */
	enum rx_status (*receive)(struct net_pair *pair);
	/** announce() - a frame of ours to the network; may be absent */
	void (*announce)(struct net *net, const uint8_t *frame, size_t n);
	void (*describe)(struct net *net, char *buf, size_t n);
};

extern const struct net_backend backend_tap, backend_echo, backend_null;
