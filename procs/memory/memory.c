/*
 * The memory manager keeps the state that must survive, and does nothing else. It keeps everything
 * in its fd store as well, so that its own death loses nothing. It connects to its peers, which
 * listen: a listener of nng 1.5.2 can be lost for good, and a peer may be restarted at any time.
 */
#include "memory.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "fd/fdlink.h"
#include "fd/fdstore.h"
#include "files.h"
#include "held.h"
#include "links.h"
#include "quarantine.h"
#include "traces.h"
#include "transfers.h"
#include "watch.h"

static int open_devices(struct memory *memory)
{
	const struct config *config = memory->proc->config;
	int r = marks_open(&memory->marks);

	if (r < 0) {
		log_error("cannot make a file: %s", strerror(-r));
		return r;
	}
	memory->devices = calloc(config->n_devices, sizeof(*memory->devices));
	memory->seen = calloc(config->n_devices, sizeof(*memory->seen));
	check(memory->devices && memory->seen);
	memory->n_devices = config->n_devices;
	for (size_t i = 0; i < config->n_devices; i++) {
		struct served *device = &memory->devices[i];

		device->config = &config->devices[i];
		device->mark = marks_of(memory->marks, device->config->name);
		r = served_open(device);
		if (r == 0 && served_is_deadly(device))
			r = quarantine_enter(device, memory->proc);
		if (r < 0) {
			log_device(LOG_ERR, device->config->name, "cannot open the record: %s",
				strerror(-r));
			return r;
		}
	}
	files_settle();
	return 0;
}

static struct served *device_of(struct memory *memory, const struct process *process)
{
	return process->device ? &memory->devices[process->device - memory->proc->config->devices]
			       : NULL;
}

/* The drop-ins of a former release do not let us into that process's group, and do not start it
 * either. Everything else works as it did. */
static int without(struct peer *peer)
{
	log_warning(
		"no state is saved or loaded before 'systemctl daemon-reload': the units are of a former release");
	links_close(peer);
	free(peer->name);
	peer->memory->n_peers--;
	return 0;
}

static int open_peer(struct memory *memory, const struct process *process)
{
	_cleanup_free_ char *path = NULL;
	struct peer *peer = &memory->peers[memory->n_peers++];
	struct bus_peer id = {
		.role = process->role->asks, .table = memory_table, .context = memory
	};
	int r;

	*peer = (struct peer){ .memory = memory,
		.role = process->role,
		.device = device_of(memory, process),
		.listen_fd = -1,
		.link_fd = -1,
		.bell_fd = -1 };
	peer->name = strdup(process->peer);
	check(peer->name);
	id.name = peer->name;
	id.user = peer->user = proc_user(memory->proc, peer->name);
	path = proc_bus_path(memory->proc, peer->name);
	r = links_open(peer);
	if (r == -EPERM && process->role->asks == ROLE_SNAPSHOT)
		return without(peer);
	if (r < 0)
		return r;
	r = bus_server_dial(&peer->bus, memory->proc->event, path, &id);
	if (r < 0)
		log_error("cannot speak to %s: %s", path, strerror(-r));
	return r;
}

static int open_peers(struct memory *memory)
{
	int r = 0;

	memory->peers = calloc(2 * memory->n_devices + ROLES_PER_GUEST, sizeof(*memory->peers));
	check(memory->peers);
	for (struct process process = { 0 };
		r == 0 && process_next(memory->proc->config, &process);)
		if (process.role->asks)
			r = open_peer(memory, &process);
	return r;
}

/* A peer that fills our descriptor table would keep us from accepting the others. Reserved for
 * them: a few descriptors for each peer's connections, the streams of transfers, and those that
 * come with one request. */
static void set_budget(const struct memory *memory)
{
	size_t used = 8 * memory->n_peers + memory->n_devices + CTL_MAX + 2 * FDLINK_FDS_MAX;
	int lowest = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
	used += lowest < 0 ? limit.rlim_max : (size_t)lowest;
	fd_close(lowest);
	vault_leave_room(limit.rlim_max > used ? limit.rlim_max - used : 0);
}

static int open_ctl(struct memory *memory)
{
	struct bus_peer id = {
		.name = "ctl", .role = ROLE_CTL, .table = memory_table, .context = memory
	};
	_cleanup_free_ char *path = proc_ctl_path(memory->proc);
	int r;

	r = bus_server_listen(&memory->ctl, memory->proc->event, path, 0600, &id);
	if (r < 0)
		log_error("cannot listen on %s: %s", path, strerror(-r));
	return r < 0 ? r : links_open_ctl(memory);
}

int memory_start(struct proc *proc)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	int r;

	check(memory);
	proc->data = memory;
	memory->proc = proc;
	sd_event_now(proc->event, CLOCK_MONOTONIC, &memory->started_usec);
	if ((r = open_devices(memory)) < 0 || (r = open_peers(memory)) < 0 ||
		(r = open_ctl(memory)) < 0 || (r = watch_open(memory)) < 0 ||
		(r = held_open(memory)) < 0 || (r = transfers_open(memory)) < 0 ||
		(r = traces_open(memory)) < 0)
		return r;
	set_budget(memory);
	fdstore_drop_rest();
	proc_ready(proc);
	return 0;
}

/* Without the sockets bulkheadctl fails at once, instead of waiting for an answer. */
void memory_leave(struct proc *proc)
{
	_cleanup_free_ char *path = proc_ctl_path(proc), *link = proc_ctl_link_path(proc);

	(void)unlink(path);
	(void)unlink(link);
}

void memory_stop(struct proc *proc)
{
	struct memory *memory = proc->data;

	if (!memory)
		return;
	bus_server_free(memory->ctl);
	links_close_ctl(memory);
	for (size_t i = 0; i < memory->n_peers; i++) {
		bus_server_free(memory->peers[i].bus);
		links_close(&memory->peers[i]);
		free(memory->peers[i].name);
	}
	transfers_close(memory);
	traces_close(memory);
	for (size_t i = 0; i < memory->n_devices; i++)
		served_close(&memory->devices[i]);
	free(memory->peers);
	free(memory->devices);
	free(memory->seen);
	free(memory);
	proc->data = NULL;
}
