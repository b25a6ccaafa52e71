/* The items are all of the next configuration, and those of the former one that are no longer
 * wanted. */
#include "config/plan.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"

/* --- Comparing devices --- */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

/* All that its socket unit is made of. */
static bool same_socket(const struct config_device *a, const struct config_device *b)
{
	return strcmp(a->socket, b->socket) == 0 && a->client == b->client &&
		same_text(a->socket_group, b->socket_group) &&
		same_text(a->socket_user, b->socket_user) && a->socket_mode == b->socket_mode;
}

static bool same_common(const struct config_device *a, const struct config_device *b)
{
	return strcmp(a->type, b->type) == 0 && a->standby == b->standby && same_socket(a, b);
}

static bool same_values(const struct config_device *a, const struct config_device *b)
{
	if (a->n_values != b->n_values)
		return false;
	for (size_t i = 0; i < a->n_values; i++)
		if (!same_text(a->values[i].member, b->values[i].member) ||
			strcmp(a->values[i].key, b->values[i].key) != 0 ||
			!same_text(a->values[i].text, b->values[i].text))
			return false;
	return true;
}

static bool same_devices(const struct config *a, const struct config *b)
{
	if (a->n_devices != b->n_devices)
		return false;
	for (size_t i = 0; i < a->n_devices; i++) {
		const struct config_device *other = config_device(b, a->devices[i].name);

		if (!other || !same_common(&a->devices[i], other))
			return false;
	}
	return true;
}

/* --- Items --- */

static struct plan_item *add(struct plan *plan, const struct role *role, const char *name,
	const char *instance)
{
	struct plan_item *item;

	plan->items = reallocarray(plan->items, plan->n_items + 1, sizeof(*plan->items));
	check(plan->items);
	item = &plan->items[plan->n_items++];
	*item = (struct plan_item){
		.role = role, .name = strdup(name), .instance = strdup(instance)
	};
	check(item->name && item->instance);
	return item;
}

static bool has_process(const struct config *config, const struct process *wanted)
{
	for (struct process process = { 0 }; config && process_next(config, &process);)
		if (process.role == wanted->role && strcmp(process.peer, wanted->peer) == 0)
			return true;
	return false;
}

static bool is_affected(const struct process *process, const struct config *old,
	const struct config *new)
{
	const struct config_device *former;

	if (!process->device)
		return !same_devices(old, new);
	former = config_device(old, process->device->name);
	return former->standby != process->device->standby || !same_values(former, process->device);
}

static void add_processes(struct plan *plan, const struct config *old, const struct config *new)
{
	for (struct process process = { 0 }; new &&process_next(new, &process);) {
		struct plan_item *item = add(plan, process.role, process.peer, process.instance);

		item->second = process.second;
		item->action = !has_process(old, &process) ? PLAN_START
			: is_affected(&process, old, new)  ? PLAN_RESTART
							   : PLAN_LEAVE;
	}
	for (struct process process = { 0 }; old && process_next(old, &process);)
		if (!has_process(new, &process))
			add(plan, process.role, process.peer, process.instance)->action = PLAN_STOP;
}

static const struct config_device *listening(const struct config *config, const char *name)
{
	const struct config_device *device = config ? config_device(config, name) : NULL;

	return device && !device->client ? device : NULL;
}

static void add_socket(struct plan *plan, const char *guest, const struct config_device *former,
	const struct config_device *device)
{
	char instance[2 * CONFIG_NAME_MAX + 2];
	struct plan_item *item;

	snprintf(instance, sizeof(instance), "%s:%s", guest, (device ?: former)->name);
	item = add(plan, NULL, (device ?: former)->name, instance);
	item->path = device ? device->socket : NULL;
	if (!device)
		item->action = PLAN_STOP;
	else if (!former)
		item->action = PLAN_START;
	else if (!same_socket(former, device))
		item->action = PLAN_RESTART;
}

static void add_sockets(struct plan *plan, const struct config *old, const struct config *new)
{
	for (size_t i = 0; new &&i < new->n_devices; i++)
		if (!new->devices[i].client)
			add_socket(plan, new->guest, listening(old, new->devices[i].name),
				&new->devices[i]);
	for (size_t i = 0; old && i < old->n_devices; i++)
		if (!old->devices[i].client && !listening(new, old->devices[i].name))
			add_socket(plan, old->guest, &old->devices[i], NULL);
}

void plan_make(struct plan *plan, const struct config *old, const struct config *new)
{
	add_processes(plan, old, new);
	add_sockets(plan, old, new);
}

void plan_start(struct plan *plan, struct plan_item *item)
{
	item->action = PLAN_START;
	for (size_t i = 0; !item->role && i < plan->n_items; i++) {
		struct plan_item *other = &plan->items[i];

		if (other->role && other->role->asks == ROLE_FRONTEND &&
			other->action == PLAN_LEAVE)
			other->action = PLAN_RESTART;
	}
}

bool plan_is_empty(const struct plan *plan)
{
	for (size_t i = 0; i < plan->n_items; i++)
		if (plan->items[i].action != PLAN_LEAVE)
			return false;
	return true;
}

void plan_deinit(struct plan *plan)
{
	for (size_t i = 0; i < plan->n_items; i++) {
		free(plan->items[i].name);
		free(plan->items[i].instance);
	}
	free(plan->items);
	*plan = (struct plan){ 0 };
}
