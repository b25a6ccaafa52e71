#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "header.h"

/* The table that a back-end of the network device provides. */

struct net;
struct net_pair;

enum rx_status {
	RX_MORE,    /* the turn is over, but there may be more frames */
	RX_IDLE,    /* no frame is available: wait for the back-end */
	RX_STARVED, /* too few buffers: wait for the driver's kick */
	RX_OFF,     /* the ring is not running, or is disabled */
};

/** struct net_backend - source and destination of frames */
struct net_backend {
	const char *name;
	uint64_t features; /* offloads it supports; open() may remove some */
	int (*open)(struct net *net);
	void (*close)(struct net *net);
	/** negotiated() - features or guest offloads changed; the device is paused */
	void (*negotiated)(struct net *net);
	/** attach() - the pair comes into use, or goes out of use; its group is paused */
	void (*attach)(struct net_pair *pair, bool in_use);
	/** send() - send a frame of the guest. 0 | -EAGAIN: not now, the ring waits | other:
	 * dropped */
	int (*send)(struct net_pair *pair, struct net_hdr *hdr, struct iovec *iov, unsigned int n,
		size_t frame_bytes);
	/** receive() - fill the receive ring with one turn of frames */
	enum rx_status (*receive)(struct net_pair *pair);
	/** announce() - send a frame of the device itself to the network; may be absent */
	void (*announce)(struct net *net, const uint8_t *frame, size_t n);
	void (*describe)(struct net *net, char *buf, size_t n);
	/** trouble() - as in struct device_ops; may be NULL */
	void (*trouble)(struct net *net, char *buf, size_t n);
};

extern const struct net_backend backend_tap, backend_echo, backend_null;
