#ifndef TESTS_LIB_RECORDER_H
#define TESTS_LIB_RECORDER_H

/*
 * A stand-in for a compositor: it accepts connections, records all bytes and descriptors of each,
 * or verifies them, and does otherwise as it is told: it sends, stalls and hangs up. A thread for
 * each connection reads. What fails in a call fails the test.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/script.h"

struct recorder;
struct recorder_peer;

/* recorder_new() - listen at this path (NULL: nowhere), with room for so many connections that are
 * not accepted yet */
struct recorder *recorder_new(const char *path, int backlog);
/* also ends all connections; NULL is fine */
void recorder_free(struct recorder *recorder);

/* recorder_accept() - the next connection, in the order in which they came; NULL: none within
 * test_ms(ms). Lives as long as the recorder. */
struct recorder_peer *recorder_accept(struct recorder *recorder, int ms);
/* recorder_adopt() - a connected socket or a pipe's reading end; consumed */
struct recorder_peer *recorder_adopt(struct recorder *recorder, int fd);

/* recorder_follow() - from the beginning, verify against this script, and record nothing */
void recorder_follow(struct recorder_peer *peer, const struct script_setting *setting);
/* recorder_complaint() - what differed from the script; NULL: nothing */
const char *recorder_complaint(struct recorder_peer *peer);

/* recorder_wait() - wait until so many bytes have arrived, or the other end has hung up: whether
 * they have */
bool recorder_wait(struct recorder_peer *peer, uint64_t n_bytes, int ms);
/* how many bytes have arrived */
uint64_t recorder_n_bytes(struct recorder_peer *peer);
/* a copy of the byte at this position, which has arrived; not while following a script */
uint8_t recorder_byte(struct recorder_peer *peer, size_t at);
/* how many descriptors have arrived */
size_t recorder_n_fds(struct recorder_peer *peer);
/* the i-th descriptor, which stays the recorder's, and the position of the first byte of the
 * receive call that brought it */
int recorder_fd(struct recorder_peer *peer, size_t i, uint64_t *ret_at);
/* the i-th descriptor becomes the caller's */
int recorder_take_fd(struct recorder_peer *peer, size_t i);

/* recorder_stall() - do not read, or read again */
void recorder_stall(struct recorder_peer *peer, bool yes);
/* whether there is room in the socket within ms: recorder_send() of 32 KiB then does not wait */
bool recorder_has_room(struct recorder_peer *peer, int ms);
/* recorder_send() - all of it in one message, however long it takes; fds are borrowed. Returns
 * false when the other end has hung up. */
bool recorder_send(struct recorder_peer *peer, const void *bytes, size_t n, const int *fds,
	size_t n_fds);
/* recorder_hang_up() - with unread bytes, the other end gets ECONNRESET */
void recorder_hang_up(struct recorder_peer *peer);
/* whether the other end has hung up */
bool recorder_wait_hangup(struct recorder_peer *peer, int ms);

#endif
