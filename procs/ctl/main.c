/*
 * bulkheadctl: asks each guest's memory manager, and shows the answer as a table or as JSON. No other
 * process is asked, so it works whatever else is dead.
 */
#include <dirent.h>
#include <errno.h>
#include <getopt.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <systemd/sd-event.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "build-config.h"
#include "bus/bus.h"
#include "show.h"

#define GUESTS_MAX 1024

static const char help[] =
	"Usage: bulkheadctl status [GUEST...] [--json] [--runtime-dir=DIR]\n"
	"\n"
	"Shows guests, their processes, devices, rings and counters; see bulkheadctl(1).\n"
	"\n"
	"  --json                for programs\n"
	"  --runtime-dir=DIR     where the suite's sockets are (default " BULKHEAD_RUNDIR ")\n"
	"  --help, --version\n";

struct arguments {
	const char *runtime_dir;
	bool json;
	bool done;
};

/** struct query - one guest's answer */
struct query {
	sd_event *event;
	const struct show *show;
	const char *guest;
	int error;
};

static void on_status(void *data, int error, const Bh__Envelope *reply)
{
	struct query *query = data;

	query->error = error;
	if (!error)
		query->show->guest(reply->get_status_reply);
	sd_event_exit(query->event, 0);
}

static int ask(const struct arguments *args, const struct show *show, const char *guest)
{
	struct query query = { .show = show, .guest = guest };
	Bh__GetStatus request = BH__GET_STATUS__INIT;
	Bh__Envelope body = BH__ENVELOPE__INIT;
	_cleanup_free_ char *path = NULL;
	struct bus_client *client = NULL;
	int r;

	check(asprintf(&path, "%s/%s/ctl.sock", args->runtime_dir, guest) >= 0);
	body.body_case = BH__ENVELOPE__BODY_GET_STATUS;
	body.get_status = &request;
	r = sd_event_new(&query.event);
	if (r >= 0)
		r = bus_client_dial(&client, query.event, path);
	if (r >= 0)
		r = bus_client_call(client, &body, BUS_TIMEOUT_MS, on_status, &query);
	if (r >= 0)
		r = sd_event_loop(query.event);
	bus_client_free(client);
	sd_event_unref(query.event);
	r = r < 0 ? r : query.error;
	if (r < 0)
		show->failed(guest, r == -ETIMEDOUT ? "no answer within 3 s; is it running?" : strerror(-r));
	return r;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static bool is_guest(const char *runtime_dir, const char *name)
{
	_cleanup_free_ char *path = NULL;
	struct stat st;

	check(asprintf(&path, "%s/%s/ctl.sock", runtime_dir, name) >= 0);
	return *name != '.' && stat(path, &st) == 0 && S_ISSOCK(st.st_mode);
}

static size_t find_guests(const char *runtime_dir, char **names)
{
	DIR *dir = opendir(runtime_dir);
	struct dirent *entry;
	size_t n = 0;

	while (dir && (entry = readdir(dir)) && n < GUESTS_MAX) {
		if (!is_guest(runtime_dir, entry->d_name))
			continue;
		names[n] = strdup(entry->d_name);
		check(names[n]);
		n++;
	}
	if (dir)
		closedir(dir);
	qsort(names, n, sizeof(*names), by_name);
	return n;
}

static int status(const struct arguments *args, char *names[], size_t n)
{
	const struct show *show = args->json ? &show_json : &show_table;
	static char *found[GUESTS_MAX];
	size_t n_found = 0;
	int r = 0;

	if (n == 0) {
		n_found = n = find_guests(args->runtime_dir, found);
		names = found;
	}
	show->begin();
	for (size_t i = 0; i < n; i++)
		if (ask(args, show, names[i]) < 0)
			r = -EIO;
	show->end();
	for (size_t i = 0; i < n_found; i++)
		free(found[i]);
	if (n == 0)
		fprintf(stderr, "No guest is served under %s.\n", args->runtime_dir);
	return r;
}

static int parse(int argc, char *argv[], struct arguments *args)
{
	static const struct option options[] = { { "json", no_argument, NULL, 'j' },
		{ "runtime-dir", required_argument, NULL, 'r' }, { "help", no_argument, NULL, 'h' },
		{ "version", no_argument, NULL, 'v' }, { 0 } };
	int c;

	*args = (struct arguments){ .runtime_dir = BULKHEAD_RUNDIR };
	while ((c = getopt_long(argc, argv, "", options, NULL)) >= 0) {
		if (c == 'j')
			args->json = true;
		else if (c == 'r')
			args->runtime_dir = optarg;
		else if (c == 'h' || c == 'v')
			args->done = true;
		else
			return -EINVAL;
		if (c == 'h')
			fputs(help, stdout);
		if (c == 'v')
			puts("bulkheadctl " BULKHEAD_VERSION);
	}
	return 0;
}

int main(int argc, char *argv[])
{
	struct arguments args;

	log_open("ctl", NULL, NULL);
	if (parse(argc, argv, &args) < 0)
		return EXIT_FAILURE;
	if (args.done)
		return EXIT_SUCCESS;
	if (optind >= argc || strcmp(argv[optind], "status") != 0) {
		fputs(help, stderr);
		return EXIT_FAILURE;
	}
	return status(&args, &argv[optind + 1], (size_t)(argc - optind - 1)) < 0 ? EXIT_FAILURE
										 : EXIT_SUCCESS;
}
