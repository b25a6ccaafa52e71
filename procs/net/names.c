/* The names of a network device's features, for people. */
#include "net.h"

#define NAME(name)                                                                                 \
	{                                                                                          \
		VIRTIO_NET_F_##name, #name                                                         \
	}

const struct feature_name net_feature_names[] = {
	NAME(CSUM),
	NAME(GUEST_CSUM),
	NAME(CTRL_GUEST_OFFLOADS),
	NAME(MTU),
	NAME(MAC),
	NAME(GSO),
	NAME(GUEST_TSO4),
	NAME(GUEST_TSO6),
	NAME(GUEST_ECN),
	NAME(GUEST_UFO),
	NAME(HOST_TSO4),
	NAME(HOST_TSO6),
	NAME(HOST_ECN),
	NAME(HOST_UFO),
	NAME(MRG_RXBUF),
	NAME(STATUS),
	NAME(CTRL_VQ),
	NAME(CTRL_RX),
	NAME(CTRL_VLAN),
	NAME(CTRL_RX_EXTRA),
	NAME(GUEST_ANNOUNCE),
	NAME(MQ),
	NAME(CTRL_MAC_ADDR),
	NAME(VQ_NOTF_COAL),
	NAME(NOTF_COAL),
	NAME(GUEST_USO4),
	NAME(GUEST_USO6),
	NAME(HOST_USO),
	NAME(HASH_REPORT),
	NAME(GUEST_HDRLEN),
	NAME(RSS),
	NAME(RSC_EXT),
	NAME(STANDBY),
	NAME(SPEED_DUPLEX),
	{ 0 },
};
