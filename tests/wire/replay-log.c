/*
 * Reading a log: fields are found by their name, and a name that comes twice in a line (size) by
 * its place.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

/* the number behind ` name=` at or after `from`, which moves behind it */
static bool field(const char **from, const char *name, uint64_t *ret)
{
	char key[16];
	const char *at;

	snprintf(key, sizeof(key), " %s=", name);
	at = strstr(*from, key);
	if (!at)
		return false;
	*ret = strtoull(at + strlen(key), NULL, 0);
	*from = at + strlen(key);
	return true;
}

static uint64_t get(const char *line, const char *name)
{
	uint64_t value = 0;

	field(&line, name, &value);
	return value;
}

static void read_region(const char *line, struct vu_region *ret)
{
	ret->gpa = get(line, "gpa");
	ret->size = get(line, "size");
	ret->uva = get(line, "uva");
	ret->offset = get(line, "off");
}

static void read_fields(const char *rest, struct log_event *e)
{
	const char *hex;
	uint64_t size = 0;

	field(&rest, "size", &size);
	e->size = (uint32_t)size;
	e->n_fds = (uint32_t)get(rest, "fds");
	e->fd_is_socket = strstr(rest, "(socket:");
	hex = strstr(rest, " 0x");
	e->value = strstr(rest, "u64=") ? get(rest, "u64") : hex ? strtoull(hex + 1, NULL, 0) : 0;
	e->state = (struct vu_state){ (uint32_t)get(rest, "index"), (uint32_t)get(rest, "num") };
	e->addr = (struct vu_addr){ (uint32_t)get(rest, "index"), (uint32_t)get(rest, "flags"),
		get(rest, "desc"), get(rest, "used"), get(rest, "avail"), get(rest, "log") };
	e->config = (struct vu_config_head){ (uint32_t)get(rest, "offset"),
		(uint32_t)get(rest, "size"), (uint32_t)get(rest, "flags") };
	read_region(rest, &e->region);
}

/* 1: *e is a new event, 0: the line says nothing of the front-end, or adds to the last event */
static int read_line(const char *line, struct log_event *e, struct log_event *last)
{
	const char *number = strchr(line, '(');
	const char *gpa = strstr(line, " gpa=");

	memset(e, 0, sizeof(*e));
	if (strstr(line, "frontend closed") || strstr(line, "backend closed")) {
		e->closed = true;
		return 1;
	}
	if (gpa && !strstr(line, " F>B ") && last && last->request == VU_SET_MEM_TABLE)
		read_region(line, &last->region);
	if (!strstr(line, " F>B ") || !number)
		return 0;
	e->request = (uint32_t)strtoul(number + 1, NULL, 10);
	e->need_reply = strstr(line, " NEED_REPLY ");
	read_fields(strchr(number, ')'), e);
	return 1;
}

int log_read(const char *path, struct log_event *ret_events, size_t max)
{
	FILE *f = fopen(path, "re");
	char line[1024];
	size_t n = 0;

	if (!f)
		return -errno;
	while (n < max && fgets(line, sizeof(line), f)) {
		struct log_event *last = n ? &ret_events[n - 1] : NULL;

		if (read_line(line, &ret_events[n], last))
			n++;
	}
	fclose(f);
	return (int)n;
}
