#ifndef TESTS_LIB_SUITE_H
#define TESTS_LIB_SUITE_H

/*
 * Starts the product for a test: `bulkhead run` with a generated file in its own directory.
 * Environment: BULKHEAD_BUILD is the build's root. BULKHEAD_TEST_OPTION is an extra argument of
 * `bulkhead run`. BULKHEAD_TEST_PEER=dpdk starts testpmd with its vhost driver instead, to validate
 * a test against another back-end.
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
	uint16_t queue_pairs; /* 0: not configured */
	uint32_t generate;    /* bytes, null only; 0: not configured */
	uint32_t mtu;         /* 0: not configured */
	const char *mac;      /* NULL: not configured */
	const char *wayland;  /* NULL: not configured; path of a compositor's socket */
	uint32_t vfds;        /* 0: not configured */
	bool client;          /* the product connects, and the test listens */
	bool standby;         /* with a hot standby */
};

struct suite_process {
	pid_t pid;
	char role[32]; /* of the table of processes (config/roles.h), or (keeper), (late-unmap) */
	char instance[64]; /* GUEST, or GUEST:DEVICE for a worker: vm1:net0 */
};

/* open descriptors */
struct suite_fds {
	size_t sockets;
	size_t others;
};

struct suite {
	char dir[64];
	pid_t pid;
	bool peer;
	struct suite_device devices[SUITE_MAX_DEVICES];
	size_t n_devices;
	struct suite_process before[SUITE_MAX_PROCESSES];
	size_t n_before;
	struct suite_fds fds_before; /* of all processes together */
	char *held_before;           /* by whom, as text */
	bool deadly;                 /* the test makes processes die by signals */
	char why[400];
};

/* All return 0 or a negative errno, see `why`. -ENOENT: there is no product to test. */

int suite_start(struct suite *s, const struct suite_device *devices, size_t n);
/* waits until all processes have started; not called by tests of the start itself */
int suite_wait_ready(struct suite *s);
/* path of a device's socket; valid until the next call */
const char *suite_socket(const struct suite *s, const char *device);

/* the device's type, as written to the configuration */
const char *suite_type(const struct suite_device *device);

/* descendants of the launcher; returns their number */
size_t suite_processes(const struct suite *s, struct suite_process *ret, size_t max);
/* notes which processes are running, and how many descriptors they have open in total */
void suite_remember(struct suite *s);
/* whether all of those processes are still running */
int suite_same(struct suite *s);
/* waits until no more descriptors are open than were noted, but for a few of the bus' sockets;
 * -EMFILE if they stay open */
int suite_no_leak(struct suite *s);
/*
 * All descriptors that the keeper holds open, including other processes' stores: one line per kind
 * ("memfd:guest", "eventfd" ...) with its count, sorted; malloc'ed.
 */
char *suite_held(const struct suite *s);
/* the first process of that role, of that device (NULL: of any); -1 = there is none */
pid_t suite_pid(const struct suite *s, const char *role, const char *device);
/* adds the open descriptors of a process; one that is gone has none */
void suite_count_fds(pid_t pid, struct suite_fds *fds);
/* SIGKILL to the first process of that role, once there is one; likewise below */
int suite_kill(struct suite *s, const char *role);
/* SIGKILL to the worker of a device */
int suite_kill_worker(struct suite *s, const char *device);
/* SIGKILL to the launcher and all its processes; only the log remains */
int suite_kill_all(struct suite *s);
/* starts the product again after suite_kill_all(), without any of its former state */
int suite_start_again(struct suite *s);
/* SIGKILL to one process (device NULL: any of that role), which is not restarted ... */
int suite_kill_for_good(struct suite *s, const char *role, const char *device);
/* ... before this is called */
void suite_go_on(struct suite *s);
/* true once `text` is in the product's output */
bool suite_logged(const struct suite *s, const char *text);

/* SIGTERM; the launcher must exit with 0 within 10 s, and no sanitizer report may be in the
 * log */
int suite_stop(struct suite *s);

#endif
