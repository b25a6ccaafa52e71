/* What is known of a guest is gathered here, whoever says it. */
#include "seen.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "alive.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "config/interface.h"
#include "config/roles.h"

const char *const seen_state_names[_SEEN_STATES] = {
	[SEEN_STOPPED] = "stopped",
	[SEEN_ENDED] = "ended",
	[SEEN_STARTING] = "starting",
	[SEEN_RUNNING] = "running",
};

struct seen_process *seen_process(struct seen *seen, const char *name, const char *role)
{
	struct seen_process *process;

	for (size_t i = 0; i < seen->n_processes; i++)
		if (strcmp(seen->processes[i].name, name) == 0)
			return &seen->processes[i];
	seen->processes = reallocarray(seen->processes, seen->n_processes + 1, sizeof(*process));
	check(seen->processes);
	process = &seen->processes[seen->n_processes++];
	*process = (struct seen_process){ .name = strdup(name), .role = strdup(role) };
	check(process->name && process->role);
	return process;
}

/* --- Faults --- */

__attribute__((format(printf, 2, 0))) static void add_fault(struct seen *seen, const char *fmt,
	va_list ap)
{
	seen->faults = reallocarray(seen->faults, seen->n_faults + 1, sizeof(*seen->faults));
	check(seen->faults);
	check(vasprintf(&seen->faults[seen->n_faults++], fmt, ap) >= 0);
}

void seen_fault(struct seen *seen, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_fault(seen, fmt, ap);
	va_end(ap);
	seen->health = SEEN_UNHEALTHY;
}

void seen_unclear(struct seen *seen, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	add_fault(seen, fmt, ap);
	va_end(ap);
	if (seen->health == SEEN_HEALTHY)
		seen->health = SEEN_UNCLEAR;
}

/* --- The sources --- */

void seen_file(struct seen *seen, const char *path)
{
	_cleanup_free_ char *error = NULL;
	char *line, *rest;

	free(seen->file);
	seen->file = strdup(path);
	check(seen->file);
	if (config_load(path, &seen->own, &error) < 0)
		for (rest = error; (line = strsep(&rest, "\n"));)
			seen_fault(seen, "%s", line);
	seen_config(seen, seen->own);
}

void seen_config(struct seen *seen, const struct config *config)
{
	seen->config = config;
	for (struct process process = { 0 }; config && process_next(config, &process);)
		(void)seen_process(seen, process.peer, process.role->name);
}

/* Where no service manager is known, the memory manager is asked for all of it. */
static void take_peer(struct seen *seen, const Bh__PeerStatus *peer)
{
	struct seen_process *process = seen_process(seen, peer->name, peer->role);

	process->peer = peer;
	if (peer->pid && (seen->manager == SEEN_NOBODY || !process->pid)) {
		process->pid = (pid_t)peer->pid;
		process->state = SEEN_RUNNING;
	}
}

void seen_reply(struct seen *seen, const Bh__GetStatusReply *reply)
{
	seen->reply = reply;
	for (size_t i = 0; i < reply->n_peers; i++)
		take_peer(seen, reply->peers[i]);
}

const char *seen_interface(const struct seen *seen, const Bh__DeviceStatus *device)
{
	for (size_t i = 0; seen->config && i < seen->config->n_devices; i++)
		if (strcmp(seen->config->devices[i].name, device->name) == 0)
			return config_interface(&seen->config->devices[i]);
	return device->interface;
}

/* --- What is wrong --- */

/* A service manager that is held up has not heard of an end yet. */
static void look_at_pid(struct seen_process *process)
{
	process->up_ms = process->pid ? alive_ms(process->pid) : -1;
	if (process->up_ms >= 0 || !process->pid)
		return;
	if (process->up_ms == -ESRCH && process->state == SEEN_RUNNING) {
		process->state = SEEN_ENDED;
		free(process->why);
		process->why = strdup("its process is gone");
		check(process->why);
	}
	process->up_ms = -1;
}

static void judge_process(struct seen *seen, const struct seen_process *process)
{
	const char *why = process->why ?: "";

	if (process->state != SEEN_RUNNING)
		seen_fault(seen, "process %s is %s%s%s", process->name,
			process->state == SEEN_STOPPED ? "not running"
						       : seen_state_names[process->state],
			*why ? ": " : "", why);
	else if (seen->reply && (!process->peer || !process->peer->pid))
		seen_fault(seen, "process %s (pid %d) is not connected to the memory manager",
			process->name, (int)process->pid);
}

static void judge_device(struct seen *seen, const Bh__DeviceStatus *device)
{
	if (!device->observed || !device->desired)
		return;
	if (*device->quarantine)
		seen_fault(seen,
			"device %s is in quarantine: %s; 'bulkheadctl release %s %s' ends it",
			device->name, device->quarantine, seen->name, device->name);
	if (*device->observed->apply_error)
		seen_fault(seen, "device %s: %s", device->name, device->observed->apply_error);
	if (*device->observed->trouble)
		seen_fault(seen, "device %s: %s", device->name, device->observed->trouble);
	for (size_t i = 0; i < device->observed->n_rings && !*device->quarantine; i++)
		if (*device->observed->rings[i]->error)
			seen_fault(seen, "device %s: ring %u: %s", device->name,
				device->observed->rings[i]->index,
				device->observed->rings[i]->error);
}

void seen_judge(struct seen *seen)
{
	for (size_t i = 0; i < seen->n_processes; i++) {
		look_at_pid(&seen->processes[i]);
		judge_process(seen, &seen->processes[i]);
	}
	for (size_t i = 0; seen->reply && i < seen->reply->n_devices; i++)
		judge_device(seen, seen->reply->devices[i]);
}

void seen_forget_processes(struct seen *seen)
{
	for (size_t i = 0; i < seen->n_processes; i++) {
		free(seen->processes[i].name);
		free(seen->processes[i].role);
		free(seen->processes[i].why);
	}
	seen->n_processes = 0;
}

void seen_deinit(struct seen *seen)
{
	seen_forget_processes(seen);
	for (size_t i = 0; i < seen->n_faults; i++)
		free(seen->faults[i]);
	free(seen->processes);
	free(seen->faults);
	config_free(seen->own);
	free(seen->file);
	free(seen->name);
	*seen = (struct seen){ 0 };
}
