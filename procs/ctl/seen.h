#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "bus.pb-c.h"
#include "config/config.h"

/*
 * What is known of a guest: from its file, from the service manager that runs its processes
 * (systemd or the launcher), and from its memory manager, if it answers. Each may be missing.
 */

/** enum seen_state - of a process, as its service manager or else the memory manager knows it */
enum seen_state {
	SEEN_STOPPED, /* it does not run, and nobody starts it */
	SEEN_ENDED,   /* it will be started again */
	SEEN_STARTING,
	SEEN_RUNNING,
	_SEEN_STATES
};

/** seen_state_names - as they are shown */
extern const char *const seen_state_names[_SEEN_STATES];

/** struct seen_process - a process of the guest */
struct seen_process {
	char *name; /* of its endpoint: "memory", "net0", "net0+standby" */
	char *role;
	enum seen_state state;
	pid_t pid;     /* 0 = none */
	int64_t up_ms; /* of that pid, once judged; -1 = unknown */
	bool counted;
	uint64_t restarts;          /* since the service manager began with it; if counted */
	char *why;                  /* why it does not run, or what it says of itself; or NULL */
	const Bh__PeerStatus *peer; /* in the reply; NULL = it is not there */
};

/** enum seen_manager - who starts the processes */
enum seen_manager { SEEN_NOBODY, SEEN_LAUNCHER, SEEN_SYSTEMD };

/** enum seen_health - what the exit status is made of */
enum seen_health { SEEN_HEALTHY, SEEN_UNHEALTHY, SEEN_UNCLEAR };

struct seen {
	char *name;
	char *file;                  /* of its devices; NULL = unknown */
	const struct config *config; /* that it gets; NULL = none */
	struct config *own;          /* private: the same, if seen_file() has read it */
	enum seen_manager manager;
	bool dead;                      /* its launcher was killed: nobody answers */
	bool hidden;                    /* we may not know whether a launcher serves it */
	struct seen_process *processes; /* as process_next() has them, then others */
	size_t n_processes;
	const Bh__GetStatusReply *reply; /* NULL = there was none */
	char **faults;                   /* what is wrong, one line each */
	size_t n_faults;
	enum seen_health health;
};

/** seen_process() - the process of that name, which is added if it is not there */
struct seen_process *seen_process(struct seen *seen, const char *name, const char *role);

/** seen_fault() - add a line about what is wrong: the guest is not healthy */
void seen_fault(struct seen *seen, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** seen_unclear() - the same, of something that keeps us from knowing */
void seen_unclear(struct seen *seen, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** seen_file() - read the guest's file: the processes that it asks for are added, and its faults
 * @path: [in] copied */
void seen_file(struct seen *seen, const char *path);

/** seen_config() - the configuration that the guest gets: its processes are added
 * @config: borrowed for as long as seen is used; NULL = none */
void seen_config(struct seen *seen, const struct config *config);

/** seen_forget_processes() - nothing is known of them */
void seen_forget_processes(struct seen *seen);

/** seen_reply() - what the memory manager says, borrowed for as long as seen is used: its peers
 * are found in the processes */
void seen_reply(struct seen *seen, const Bh__GetStatusReply *reply);

/** seen_interface() - the network interface of the host that a device is on, by the configuration
 * that the guest gets; without one as the memory manager says, which keeps what it read at its
 * start. Borrowed; "" = none */
const char *seen_interface(const struct seen *seen, const Bh__DeviceStatus *device);

/** seen_judge() - what is wrong with processes and devices, once all else is there */
void seen_judge(struct seen *seen);

/** seen_deinit() - free all but the reply; the struct is empty afterwards */
void seen_deinit(struct seen *seen);
