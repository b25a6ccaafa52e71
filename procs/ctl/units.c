/*
 * systemd lists the units of all guests in one answer; of each process that is looked at, a few
 * properties are asked for. The system's message bus lets everybody do so; where there is none,
 * root asks systemd itself. Why a process ended is in the journal, if systemd does not know it: the
 * last error of its unit.
 */
#include "units.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "config/roles.h"
#include "config/unit.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define PREFIX "bulkhead-"
#define TEXT_BYTES 512

/** struct unit - bulkhead-ROLE@INSTANCE.service, or .socket */
struct unit {
	char *id;
	char *path; /* of its object */
	char *active, *sub;
	char *role, *instance;
	bool is_socket;
};

/* --- Reading all of them --- */

static int open_bus(sd_bus **ret_bus)
{
	sd_bus *bus = NULL;
	int r = sd_bus_open_system(ret_bus);

	if (r >= 0)
		return 0;
	if ((r = sd_bus_new(&bus)) >= 0 &&
		(r = sd_bus_set_address(bus, "unix:path=/run/systemd/private")) >= 0 &&
		(r = sd_bus_start(bus)) >= 0) {
		*ret_bus = bus;
		return 0;
	}
	sd_bus_unref(bus);
	return r;
}

/* Split bulkhead-ROLE@INSTANCE.SUFFIX; false: it is none of these. */
static bool split(const char *id, struct unit *ret)
{
	const char *at = strchr(id, '@'), *dot = strrchr(id, '.');

	if (strncmp(id, PREFIX, strlen(PREFIX)) != 0 || !at || !dot || dot < at || dot == at + 1)
		return false;
	ret->is_socket = strcmp(dot, ".socket") == 0;
	if (!ret->is_socket && strcmp(dot, ".service") != 0)
		return false;
	ret->role = strndup(id + strlen(PREFIX), (size_t)(at - id) - strlen(PREFIX));
	ret->instance = strndup(at + 1, (size_t)(dot - at) - 1);
	check(ret->role && ret->instance);
	unit_unescape(ret->instance);
	return true;
}

static void forget(struct unit *unit)
{
	free(unit->id);
	free(unit->path);
	free(unit->active);
	free(unit->sub);
	free(unit->role);
	free(unit->instance);
}

static void take_unit(struct units *units, const char *id, const char *active, const char *sub,
	const char *path)
{
	struct unit unit = { 0 };

	if (!split(id, &unit))
		return;
	/* bulkhead-metrics@.service has instances that are no guests */
	if (!role_find(unit.role)) {
		forget(&unit);
		return;
	}
	unit.id = strdup(id);
	unit.path = strdup(path);
	unit.active = strdup(active);
	unit.sub = strdup(sub);
	units->list = reallocarray(units->list, units->n + 1, sizeof(unit));
	check(unit.id && unit.path && unit.active && unit.sub && units->list);
	units->list[units->n++] = unit;
}

static int take_all(struct units *units, sd_bus_message *answer)
{
	const char *id, *active, *sub, *path;
	int r = sd_bus_message_enter_container(answer, 'a', "(ssssssouso)");

	while (r >= 0 &&
		(r = sd_bus_message_read(answer, "(ssssssouso)", &id, NULL, NULL, &active, &sub,
			 NULL, &path, NULL, NULL, NULL)) > 0)
		take_unit(units, id, active, sub, path);
	return r;
}

int units_read(struct units *units)
{
	sd_bus_message *answer = NULL;
	int r;

	*units = (struct units){ 0 };
	if (sd_booted() <= 0)
		return -ENOENT;
	r = open_bus(&units->bus);
	if (r >= 0)
		r = sd_bus_call_method(units->bus, SYSTEMD, "/org/freedesktop/systemd1",
			SYSTEMD ".Manager", "ListUnitsByPatterns", NULL, &answer, "asas", 0, 1,
			PREFIX "*@*.*");
	if (r >= 0)
		r = take_all(units, answer);
	sd_bus_message_unref(answer);
	return r < 0 ? r : 0;
}

/* --- One of them --- */

static uint32_t number_of(const struct units *units, const struct unit *unit, const char *name,
	char type)
{
	uint32_t value = 0;

	(void)sd_bus_get_property_trivial(units->bus, SYSTEMD, unit->path, SYSTEMD ".Service", name,
		NULL, type, &value);
	return value;
}

static char *text_of(const struct units *units, const struct unit *unit, const char *name)
{
	char *value = NULL;

	if (sd_bus_get_property_string(units->bus, SYSTEMD, unit->path, SYSTEMD ".Service", name,
		    NULL, &value) < 0 ||
		*value)
		return value;
	free(value);
	return NULL;
}

static char *take_message(sd_journal *journal)
{
	static const char field[] = "MESSAGE=";
	const void *data;
	char *text = NULL;
	size_t n;

	if (sd_journal_get_data(journal, "MESSAGE", &data, &n) >= 0 && n > strlen(field)) {
		text = strndup((const char *)data + strlen(field),
			n - strlen(field) < TEXT_BYTES ? n - strlen(field) : TEXT_BYTES);
		check(text);
	}
	return text;
}

/* The last error that a process of the unit has logged since the system was started. */
static char *last_error(const struct unit *unit)
{
	_cleanup_free_ char *match = NULL;
	sd_journal *journal = NULL;
	char *text = NULL;

	check(asprintf(&match, "_SYSTEMD_UNIT=%s", unit->id) >= 0);
	if (sd_journal_open(&journal, SD_JOURNAL_LOCAL_ONLY) >= 0 &&
		sd_journal_add_match(journal, match, 0) >= 0 &&
		sd_journal_add_match(journal, "PRIORITY=3", 0) >= 0 &&
		sd_journal_seek_tail(journal) >= 0 && sd_journal_previous(journal) > 0)
		text = take_message(journal);
	sd_journal_close(journal);
	return text;
}

/* How it ended last, as systemd knows it. */
static char *end_of(const struct units *units, const struct unit *unit)
{
	int code = (int)number_of(units, unit, "ExecMainCode", 'i');
	int status = (int)number_of(units, unit, "ExecMainStatus", 'i');
	_cleanup_free_ char *result = text_of(units, unit, "Result");
	char *text = NULL;

	if (code == CLD_KILLED || code == CLD_DUMPED)
		check(asprintf(&text, "it was killed by signal %d (%s)", status,
			      strsignal(status)) >= 0);
	else if (code == CLD_EXITED && status)
		check(asprintf(&text, "it ended (status %d)", status) >= 0);
	else if (result && strcmp(result, "success") != 0)
		check(asprintf(&text, "systemd says '%s'", result) >= 0);
	return text;
}

/* Where nothing failed, what the process said of itself last is not why. */
static char *why_ended(const struct units *units, const struct unit *unit, enum seen_state state)
{
	_cleanup_free_ char *end = end_of(units, unit), *said = text_of(units, unit, "StatusText");
	char *text = NULL;

	if (!end && state == SEEN_STOPPED) {
		text = strdup("it was stopped, or never started; 'bulkheadctl apply' starts it");
		check(text);
		return text;
	}
	if (!said && end && !strstr(end, "signal"))
		said = last_error(unit);
	if (!said && !end)
		return NULL;
	check(asprintf(&text, "%s%s%s%s", said ?: "", said && end ? " (" : "", end ?: "",
		      said && end ? ")" : "") >= 0);
	return text_clean(text);
}

static enum seen_state state_of(const struct unit *unit)
{
	if (strcmp(unit->active, "active") == 0 || strcmp(unit->active, "reloading") == 0)
		return SEEN_RUNNING;
	if (strcmp(unit->sub, "auto-restart") == 0)
		return SEEN_ENDED;
	return strcmp(unit->active, "activating") == 0 || strcmp(unit->active, "deactivating") == 0
		? SEEN_STARTING
		: SEEN_STOPPED;
}

static void look_at_service(const struct units *units, const struct unit *unit, struct seen *seen)
{
	struct seen_process *process;
	char name[sizeof(((struct process *)NULL)->peer)];

	process_peer(unit->role, unit->instance, name, sizeof(name));
	process = seen_process(seen, name, unit->role);
	process->state = state_of(unit);
	process->pid = (pid_t)number_of(units, unit, "MainPID", 'u');
	process->counted = true;
	process->restarts = number_of(units, unit, "NRestarts", 'u');
	free(process->why);
	process->why = process->state == SEEN_RUNNING ? text_of(units, unit, "StatusText")
						      : why_ended(units, unit, process->state);
	if (process->why)
		text_clean(process->why);
}

/* The frontend takes the listening socket when it starts; it need not run for VMMs to find one. */
static void look_at_socket(const struct unit *unit, struct seen *seen)
{
	if (strcmp(unit->active, "active") != 0 && strcmp(unit->active, "activating") != 0)
		seen_fault(seen,
			"nobody listens for the VMM of device %s: %s is %s; see 'systemctl status %s'",
			strchr(unit->instance, ':') + 1, unit->id, unit->active, unit->id);
}

/* --- Of a guest --- */

static bool is_of(const struct unit *unit, const char *guest)
{
	size_t n = strlen(guest);

	return strncmp(unit->instance, guest, n) == 0 &&
		(!unit->instance[n] || unit->instance[n] == ':');
}

static bool is_stopped(const struct unit *unit)
{
	return strcmp(unit->active, "inactive") == 0;
}

bool units_has(const struct units *units, const char *guest)
{
	for (size_t i = 0; i < units->n; i++)
		if (is_of(&units->list[i], guest) && !is_stopped(&units->list[i]))
			return true;
	return false;
}

/* A unit that is stopped stays in the list for a while, even if no file asks for it any more. */
static bool is_wanted(const struct seen *seen, const struct unit *unit)
{
	char name[sizeof(((struct process *)NULL)->peer)];

	process_peer(unit->role, unit->instance, name, sizeof(name));
	if (!is_stopped(unit))
		return true;
	if (unit->is_socket)
		return seen->config && strchr(unit->instance, ':') &&
			config_device(seen->config, strchr(unit->instance, ':') + 1);
	for (size_t i = 0; i < seen->n_processes; i++)
		if (strcmp(seen->processes[i].name, name) == 0)
			return true;
	return false;
}

void units_look(const struct units *units, struct seen *seen)
{
	seen->manager = SEEN_SYSTEMD;
	for (size_t i = 0; i < units->n; i++) {
		const struct unit *unit = &units->list[i];

		if (!is_of(unit, seen->name) || !is_wanted(seen, unit))
			continue;
		if (!unit->is_socket)
			look_at_service(units, unit, seen);
		else if (strchr(unit->instance, ':'))
			look_at_socket(unit, seen);
	}
}

void units_names(const struct units *units, void (*fn)(const char *guest, void *data), void *data)
{
	for (size_t i = 0; i < units->n; i++) {
		_cleanup_free_ char *guest = NULL;

		if (is_stopped(&units->list[i]))
			continue;
		guest = strndup(units->list[i].instance, strcspn(units->list[i].instance, ":"));
		check(guest);
		fn(guest, data);
	}
}

void units_deinit(struct units *units)
{
	for (size_t i = 0; i < units->n; i++)
		forget(&units->list[i]);
	free(units->list);
	sd_bus_unref(units->bus);
	*units = (struct units){ 0 };
}
