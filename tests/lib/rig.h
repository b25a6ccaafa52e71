#ifndef TESTS_LIB_RIG_H
#define TESTS_LIB_RIG_H

/*
 * The base of most wire and device tests: the product with the devices "net0" (under test) and
 * "witness" (echo), started once per program. The witness has its own session and rings, in its own
 * process. After every test it must still move frames, and all processes running at the start must
 * still be running: a test of net0 must not affect anything else.
 */

#include <check.h>

#include "net.h"
#include "suite.h"

extern struct suite rig;

/*
 * main() of a test program. @net0 describes the device under test (its name is set here), @add adds
 * test cases. Returns the exit status; 77 (skipped) if there is no product.
 */
int rig_main(const char *name, const struct suite_device *net0, void (*add)(Suite *suite));
/* a test case with the checks that follow each test */
TCase *rig_case(Suite *suite, const char *name);
/* a test case of those that end processes on purpose: who runs is not compared after them */
TCase *rig_kills_case(Suite *suite);

/* path of net0's socket */
const char *rig_socket(void);
/* fails the test unless the witness moves frames */
void rig_check_witness(void);
/* opens a session on net0, or fails the test */
void rig_open(struct net *n, const struct net_profile *profile);
/* as rig_open(), but without starting any ring */
void rig_open_stopped(struct net *n, const struct net_profile *profile);
/* all rings: start and enable them, and fill the receive rings */
void rig_start_rings(struct net *n);
/* all rings: stop them; fails the test unless they stop at the driver's position */
void rig_stop_rings(struct net *n);
/* all rings: stop them, and restart them at that position */
void rig_restart_rings(struct net *n);
/* ends most tests: rig_end() stops the rings, checks memory for stray writes, and closes the
 * session. rig_finish() first moves frames, restarts the rings, and moves frames again. */
void rig_end(struct net *n);
void rig_finish(struct net *n);
/* fails the test unless a new session on net0 moves frames both ways */
void rig_check_net0(void);
/* a client connected to net0 after vu_hello() (REPLY_ACK and the protocol features in `want`) */
void rig_hello(struct vu_client *c, uint64_t want);

/* hand a descriptor over a socket to another process, and take one that was: the caller's */
void rig_pass_fd(int into, int fd);
int rig_take_fd(int from);

/* fails the test with `why` unless r is 0 */
#define rig_ok(r, why)                                                                             \
	do {                                                                                       \
		int _r = (r);                                                                      \
		ck_assert_msg(!_r, #r " = %d: %s", _r, (why));                                     \
	} while (0)

#endif
