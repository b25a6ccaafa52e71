#ifndef TESTS_DEVICE_LOGGED_H
#define TESTS_DEVICE_LOGGED_H

/* A session with net0 whose writes into guest memory are compared with its dirty log (logged.c).
 * What goes wrong fails the test. */

#include <stdbool.h>
#include <stdint.h>

#include "rig.h"

#define SHMFD VU_BIT(VU_PF_LOG_SHMFD)
#define LOG_ALL VU_BIT(VU_F_LOG_ALL)
#define PAGE UINT64_C(4096)
#define BEHIND (UINT64_C(1) << 30)    /* guest memory ends here */
#define LOG_PAGES (2 * BEHIND / PAGE) /* log addresses may lie behind guest memory */
#define LOG_BYTES (LOG_PAGES / 8)

extern struct net n;
extern int log_fd; /* cannot be sealed */
extern uint8_t *bits;
extern uint32_t bases[2]; /* where the rings stand */

enum {
	LOGGED_PACKED = 1,
	LOGGED_MERGEABLE = 2,
	LOGGED_EVENT_IDX = 4,
	LOGGED_INDIRECT = 8,
	LOGGED_SEGMENTS = 16 /* the driver may send them, and takes none */
};

/* a log without marks; drop_log() once for each */
void make_log(void);
void drop_log(void);
bool is_marked(uint64_t page);
void clear_log(void);
uint64_t n_marked(void);

/* SET_LOG_BASE; LOG_ALL in SET_FEATURES; SET_VRING_ADDR with the LOG flag and a log address */
void set_log(void);
void set_log_all(bool on);
void set_ring_addr(uint16_t index, bool log, uint64_t at);
/* both rings, logged where they are */
void set_ring_logs(bool on);

/* a session of this kind with everything logged, and its rings stopped; close_logged() ends it */
void open_logged(const char *path, int kind);
void close_logged(void);
void stop_rings(void);
void start_rings(void);

/* at most as many frames as there are receive buffers for */
void send_frames(unsigned int count, uint32_t n_bytes);
void receive_frames(void);

/* the copy, from which on the device alone writes; the log is cleared */
void note_memory(void);
/* of guest memory, as far as it is used */
uint64_t n_pages(void);
bool has_changed(uint64_t page);
/* how many pages have changed: each is marked */
uint64_t all_is_marked(void);
void nothing_else_is_marked(void);

#endif
