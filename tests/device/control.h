#ifndef TESTS_DEVICE_CONTROL_H
#define TESTS_DEVICE_CONTROL_H

/*
 * A driver with a control ring, and the network behind its device: a TAP in a network namespace
 * that the test program moved into before it started the product.
 */

#include "rig.h"

#define CONTROL_TAP "bhcontrol0"
#define CMD_TABLE_BYTES 6000
#define CONTROL_NONE RING_FILL /* no answer was written */

enum {
	CTRL_RX = 0,
	CTRL_MAC = 1,
	CTRL_VLAN = 2,
	CTRL_ANNOUNCE = 3,
	CTRL_MQ = 4,
	CTRL_OFFLOADS = 5,
	CTRL_NOTF_COAL = 6,
};

enum {
	CTRL_OK = 0,
	CTRL_ERR = 1,
};

enum {
	NET_F_CTRL_GUEST_OFFLOADS = 2,
	NET_F_GUEST_TSO4 = 7,
	NET_F_GUEST_UFO = 10,
	NET_F_CTRL_RX = 18,
	NET_F_CTRL_VLAN = 19,
	NET_F_CTRL_RX_EXTRA = 20,
	NET_F_GUEST_ANNOUNCE = 21,
	NET_F_CTRL_MAC_ADDR = 23,
	NET_F_VQ_NOTF_COAL = 52,
	NET_F_NOTF_COAL = 53,
	NET_F_HASH_REPORT = 57,
};

#define VLAN_NONE (-1)

extern const uint8_t mac_own[6], mac_other[6], mac_third[6], mac_group[6], mac_group2[6],
	mac_broadcast[6];

/* --- the network --- */

/* namespace and TAP (up, two queues, no traffic of its own); before the product starts. 0 |
 * negative errno */
int wire_make(void);
/* the host's end of the TAP; once for each test */
void wire_open(void);
void wire_close(void);
/* a frame to the device; with a header of the kernel's for one that is larger than the MTU */
void wire_send(const void *frame, size_t n_bytes);
void wire_send_tso4(const void *frame, size_t n_bytes, uint16_t gso_bytes);
/* the next frame that the device sent; the test fails if none comes */
size_t wire_recv(uint8_t *ret_frame, size_t max);

/* the next one must be a request of reverse ARP for this address, from it to everybody */
void wire_expect_rarp(const uint8_t *mac);

/* --- the driver --- */

extern struct net control_net;

/* a session with CTRL_VQ and `features`, pairs and the control ring started, receive rings
 * filled */
void control_open(const struct net_profile *profile);
void control_close(void);
/* GET_VRING_BASE of every ring: each stands where the driver does */
void control_stop(void);
/* another connection, not negotiated, or negotiated; guest memory and the rings are as they were */
void control_connect_anew(void);
void control_negotiate_anew(void);
/* memory is set, all rings are started and enabled */
void control_wake(void);
/* a chain of these pieces (n_out readable, then n_in writable ones), and what became of its answer
 * byte */
struct control_piece {
	const void *bytes;
	uint32_t n_bytes;
};
uint8_t control_chain(const struct control_piece *out, size_t n_out, uint32_t n_in_bytes);
/* the same without waiting for the device to have used it */
void control_post(const struct control_piece *out, size_t n_out, uint32_t n_in_bytes);
uint8_t control_wait(uint32_t n_in_bytes);
/* class and number in one piece, data in another, one byte for the answer */
uint8_t control_command(uint8_t class, uint8_t number, const void *data, uint32_t n_bytes);
/* the same of a command with a result, which lies before the answer; at most 32 bytes */
uint8_t control_ask(uint8_t class, uint8_t number, const void *data, uint32_t n_bytes,
	void *ret_result, uint32_t n_result);
/* as control_command(), and the answer must be `want` */
void control_expect(uint8_t want, uint8_t class, uint8_t number, const void *data,
	uint32_t n_bytes);

/* whether a frame from the network reaches the driver; `always` is where one is sent that does in
 * any case: so a frame that is held back is known to be so without waiting for it */
bool control_passes(const uint8_t *to, int vlan, const uint8_t *always);
/* fails unless these bytes of configuration space become `want` */
void control_await_config(uint32_t offset, const void *want, uint32_t n_bytes);

/* features with, for odd i, the packed ring */
struct net_profile control_layout(int i, uint64_t features);
void control_set_promisc(uint8_t on);

struct control_table { /* of MAC_TABLE_SET */
	uint8_t bytes[CMD_TABLE_BYTES];
	uint32_t n_bytes;
};

void control_add_macs(struct control_table *t, const uint8_t *macs, uint32_t count);

/* main() of a program whose device has the TAP: rig_main(), or a skip where there can be none */
int control_main(const char *name, const struct suite_device *net0, void (*add)(Suite *suite));

/* test-control-effects.c */
void control_add_effects(Suite *suite);

#endif
