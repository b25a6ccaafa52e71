#pragma once

#include <check.h>
#include <stdbool.h>
#include <stdint.h>

#include "driver.h"

/*
 * What the tests of rings share: each is run in a loop, for the split ring where the index is even
 * and for the packed ring where it is odd. A test that has begun is ended by its fixture.
 */

extern struct rig rig;
extern bool packed;

/** BUF() - guest address of the i-th buffer, of 4096 bytes */
#define BUF(i) (RIG_BUFFERS + 65536 + (uint64_t)(i)*4096)

/** ring_tcase() - the case to which a suite adds its tests; its fixture ends what a test began */
TCase *ring_tcase(Suite *suite, const char *name);

/** begin() - a rig whose ring is not started, so that the driver may still be changed */
void begin(int i, uint32_t size);

/** begin_started() - a rig whose ring runs */
void begin_started(int i, uint32_t size);

/** end() - before another begin() in the same test */
void end(void);

/** post1() - a chain of one descriptor of 64 bytes, writable where the cookie is odd; false: no
 * room */
bool post1(uint32_t cookie);

/** post_all() - post1() of n cookies, from this one on; all of them fit */
void post_all(uint32_t cookie, uint32_t n);

/** next_chain() - one more chain into the window; it */
struct virtq_chain *next_chain(void);

/** pass() - the device serves n chains, no more and no fewer, and they come back with cookies from
 * this one on */
void pass(uint32_t cookie, unsigned int n);

/** finish() - take the first chain of the window, complete it with n_bytes, and publish it */
void finish(const struct virtq_chain *chain, uint32_t n_bytes);

/** start_with() - whether a ring starts so; it is stopped again */
int start_with(struct virtq_setup setup);

/** bad_and_on() - the next chain, whose cookie is 5, is bad by this rule and costs its request
 * alone */
void bad_and_on(const char *rule);
