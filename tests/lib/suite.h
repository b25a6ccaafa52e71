#ifndef TESTS_LIB_SUITE_H
#define TESTS_LIB_SUITE_H

/*
 * The product, started for a test: `bulkhead run` with a generated file in a directory of its own.
 * Environment: BULKHEAD_BUILD is the build's root. BULKHEAD_TEST_OPTION is one
 * more argument of `bulkhead run`. BULKHEAD_TEST_PEER=dpdk starts testpmd with its
 * vhost driver instead, to prove a test against somebody else's back-end.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SUITE_MAX_DEVICES 4
#define SUITE_MAX_PROCESSES 32

struct suite_device {
	const char *name;
	const char *type;     /* NULL: net */
	const char *backend;  /* echo, null, tap */
	const char *tap;      /* name of the interface, tap only */
	uint16_t queue_pairs; /* 0: not said */
	uint32_t generate;    /* bytes, null only; 0: not said */
	uint32_t mtu;         /* 0: not said */
	const char *mac;      /* NULL: not said */
	bool client;          /* the product connects, the test listens */
	bool standby;         /* two instances of its worker */
};

struct suite_process {
	pid_t pid;
	char role[32]; /* of the table of processes (config/roles.h), or (keeper), (late-unmap) */
	char instance[64]; /* of which guest, and for a worker of which device: vm1:net0 */
};

struct suite {
	char dir[64];
	pid_t pid;
	bool peer;
	struct suite_device devices[SUITE_MAX_DEVICES];
	size_t n_devices;
	struct suite_process before[SUITE_MAX_PROCESSES];
	size_t n_before;
	size_t fds_before;
	bool deadly; /* the test has processes die by signals of their own */
	char why[400];
};

/* All return 0 or a negative errno, and then `why` tells. -ENOENT: there is no product to test. */

int suite_start(struct suite *s, const struct suite_device *devices, size_t n);
/* until every process has started; a test that wants to see the start itself leaves it out */
int suite_wait_ready(struct suite *s);
/* path of a device's socket, valid until the next call */
const char *suite_socket(const struct suite *s, const char *device);

/* the type of a device, as the suite writes it into its file */
const char *suite_type(const struct suite_device *device);

/* descendants of the launcher; returns their number */
size_t suite_processes(const struct suite *s, struct suite_process *ret, size_t max);
/* remembers who runs, and how many descriptors all of them have open */
void suite_remember(struct suite *s);
/* whether all who ran then still run */
int suite_same(struct suite *s);
/* waits until no more descriptors are open than then: -EMFILE if they do not go */
int suite_no_leak(struct suite *s);
/*
 * What the keeper holds open, the stores of the others included: each kind ("memfd:guest",
 * "eventfd" ...) once a line with its count, sorted; malloc'ed.
 */
char *suite_held(const struct suite *s);
/* SIGKILL to the first process of that role */
int suite_kill(struct suite *s, const char *role);
/* SIGKILL to the worker of a device */
int suite_kill_worker(struct suite *s, const char *device);
/* SIGKILL to the launcher and all its processes; nothing of them is left but the log */
int suite_kill_all(struct suite *s);
/* the product again, after suite_kill_all(): it knows nothing of its former life */
int suite_start_again(struct suite *s);
/* SIGKILL to one process (device NULL: any of that role), which stays dead: nobody restarts it
 * ... */
int suite_kill_for_good(struct suite *s, const char *role, const char *device);
/* ... until now */
void suite_go_on(struct suite *s);
/* true once `text` stands in the product's output */
bool suite_logged(const struct suite *s, const char *text);

/* SIGTERM; the launcher must exit with 0 within 10 s, the log must hold no sanitizer's report */
int suite_stop(struct suite *s);

#endif
