#pragma once

#include <sys/queue.h>
#include <time.h>

#include "base/log.h"
#include "bus/bus.h"
#include "config/roles.h"
#include "fd/fdlink.h"
#include "proc/marks.h"
#include "proc/proc.h"

#include "copies.h"
#include "judge.h"
#include "vault.h"

/* What the files of this process share: one guest's devices and peers. */

/* What a mark of ours is about: a message of the bus by its case, one of the link by its case and this. */
#define BLAME_LINK 1000u

/** struct holders - who may hold locks in a device's ledger: every process that was attached since they were made */
struct holders {
	pid_t pids[8];
	size_t n;
	bool complete;              /* there is nobody else */
};

/** struct device - what is remembered of one device */
struct device {
	struct memory *memory;
	const struct config_device *config;
	struct vault *vault;
	struct copies *copies;
	int ledger_fd;              /* -1 until a worker has attached */
	uint64_t ledger_bytes;
	struct holders holders;     /* of locks in the ledger */
	Bh__Desired *desired;       /* never NULL */
	Bh__Observed *observed;     /* never NULL; generation 0 = no worker has reported yet */
	struct blame_mark *mark;    /* of our own deaths by what is said about this device */
	uint64_t released;          /* Record.released */
	bool wake;                  /* the worker's next watch is answered whatever it has seen */
	const struct peer *serving; /* of two instances the one that reported last; NULL = none yet */
};

/** struct peer - a process of the suite that may speak to us */
struct peer {
	struct memory *memory;
	char *name;                 /* "frontend", "net0", "net0+standby" */
	const struct role *role;
	uid_t user;                 /* who alone may be it, and root; see proc_user() */
	struct device *device;      /* workers: theirs; frontend: NULL */
	struct bus_request *watch;  /* a worker's, waiting for a newer generation; or NULL */
	bool patient;               /* it need not be renewed */
	bool unheard;               /* there is something to say, and nobody asks */
	struct bus_server *bus;
	int listen_fd;
	int link_fd;                /* the connection; -1 = not there now */
	sd_event_source *listen_source;
	sd_event_source *link_source;
	pid_t pid;
	uint64_t connected_usec;
	uint64_t connects;
	size_t n_buried;            /* descriptors of it that nobody may close */
};

struct memory {
	struct proc *proc;
	struct device *devices;
	size_t n_devices;
	struct peer *peers;         /* the frontend, then the worker of each device, or both its instances */
	size_t n_peers;
	struct marks *marks;
	struct bus_server *ctl;
	struct bus_request *watch;  /* the frontend's; or NULL */
	bool patient;               /* it need not be renewed */
	sd_event_source *renewal;   /* off while all are patient */
	sd_event_source *hearing;   /* off while all have asked who are to be told */
	uint64_t hearing_usec;
	Bh__Seen *seen;             /* what it has seen, n_devices entries; generation only */
	uint64_t started_usec;
};

extern const struct bus_row memory_table[];

int memory_start(struct proc *proc);
void memory_leave(struct proc *proc);
void memory_stop(struct proc *proc);

/** memory_device() - by name, if this peer may ask about it: workers about their own only; or NULL */
struct device *memory_device(struct memory *memory, const char *peer, const char *name);

/** memory_attached() - how many instances of the device's worker are connected */
unsigned int memory_attached(const struct device *device);

/** memory_peer() - by the name of its endpoint; or NULL */
struct peer *memory_peer(struct memory *memory, const char *name);

/* records.c */
int records_open(struct device *device);
void records_close(struct device *device);
/** records_take_desired() - have a copy of this as what is in force; 0 | -ENOMEM */
int records_take_desired(struct device *device, const Bh__Desired *desired);
/** records_answer_frontend() - answer the frontend's watch if there is something new */
void records_answer_frontend(struct memory *memory);
int handle_commit_desired(void *context, struct bus_request *request, const Bh__Envelope *msg);
int handle_watch_desired(void *context, struct bus_request *request, const Bh__Envelope *msg);
int handle_report_observed(void *context, struct bus_request *request, const Bh__Envelope *msg);
int handle_watch_observed(void *context, struct bus_request *request, const Bh__Envelope *msg);

/** records_renew_watches() - from now on a watch of who is not patient is answered within 2 s, with nothing if need be, and
 * who does not ask for what there is to say is made to */
int records_renew_watches(struct memory *memory);
/** records_answer_workers() - the device's workers are to look at the record */
void records_answer_workers(struct device *device);

/* quarantine.c */
/** quarantine_is_ours() - whether it is we who must not be told anything more about this device */
bool quarantine_is_ours(const struct device *device);
/** quarantine_enter() - as we start: stop the device; 0 | negative errno */
int quarantine_enter(struct device *device);
/** quarantine_text() - why the device stands still, whoever found out; "" = it does not */
const char *quarantine_text(const struct device *device);
int handle_release_device(void *context, struct bus_request *request, const Bh__Envelope *msg);

/* links.c */
int links_open(struct peer *peer);
void links_close(struct peer *peer);

/* ledgers.c */
#define LEDGER_BYTES_MAX (INT64_C(1) << 30)
/** ledgers_get() - the device's ledger file of at least this size, made if need be; borrowed */
int ledgers_get(struct device *device, uint64_t n_bytes);
/** ledgers_attached() - a process is about to have the ledger: if all who had it are gone, its locks are free again */
void ledgers_attached(struct device *device, pid_t pid);

/* positions.c */
/** positions_fill() - whether the worker is gone, and where the rings stand that the VMM has stopped; borrowed
 * until the next call */
void positions_fill(const struct device *device, Bh__CommitDesiredReply *reply);

/* status.c */
int handle_get_status(void *context, struct bus_request *request, const Bh__Envelope *msg);
