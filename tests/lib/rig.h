#ifndef TESTS_LIB_RIG_H
#define TESTS_LIB_RIG_H

/*
 * What most wire and device tests stand on: the product with the devices "net0" (under test) and
 * "witness" (echo), started once for the program. The witness has a session and rings of its own
 * in a process of its own; after every test it must still move frames, and every process that ran
 * at the start must still run: nothing that a test does to net0 may be felt elsewhere.
 */

#include <check.h>

#include "net.h"
#include "suite.h"

extern struct suite rig;

/*
 * main() of a test program. @net0 describes the device under test (its name is set here), @add
 * adds test cases. Returns the exit status; 77 (skipped) if there is no product.
 */
int rig_main(const char *name, const struct suite_device *net0, void (*add)(Suite *suite));
/* a test case with the checks that follow every test */
TCase *rig_case(Suite *suite, const char *name);

/* path of net0's socket */
const char *rig_socket(void);
/* the witness moves frames now, or the test fails */
void rig_check_witness(void);
/* an open session on net0; the test fails if it cannot be had */
void rig_open(struct net *n, const struct net_profile *profile);
/* the same, but that none of its rings has been started */
void rig_open_stopped(struct net *n, const struct net_profile *profile);
/* all rings: start them, enable them, and give the receive rings their buffers */
void rig_start_rings(struct net *n);
/* all rings: they stop where the driver stands, or the test fails */
void rig_stop_rings(struct net *n);
/* all rings stop so, and go on from there */
void rig_restart_rings(struct net *n);
/* the ends of most tests: the rings stop, nothing was written where nothing may be, and the session
 * is closed; before that, with rig_finish(), they have moved frames, were stopped, and moved frames
 * again */
void rig_end(struct net *n);
void rig_finish(struct net *n);
/* a fresh session on net0 moves frames both ways, or the test fails */
void rig_check_net0(void);
/* a client connected to net0 that has said hello (REPLY_ACK and all protocol features `want`) */
void rig_hello(struct vu_client *c, uint64_t want);

/* r is 0 or the test fails with `why` */
#define rig_ok(r, why)                                                                             \
	do {                                                                                       \
		int _r = (r);                                                                      \
		ck_assert_msg(!_r, #r " = %d: %s", _r, (why));                                     \
	} while (0)

#endif
