/*
 * The format wants all samples of a metric in one place, so the guests are asked first, and the
 * table of series is walked then. What is asked costs a memory manager one message, and the kernel
 * a walk over the page tables of each process.
 */
#include "metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "build-config.h"
#include "http.h"
#include "rights.h"
#include "series.h"

/* --- All subjects of a scope --- */

static void write_one(FILE *to, const struct series *series, const struct subject *subject)
{
	double value;

	if (series->write)
		series->write(to, series, subject);
	else if (series->value(subject, &value))
		exposition_sample(to, series->name, "", &subject->labels, value);
}

static void write_processes(FILE *to, const struct series *series, const struct subject *of_guest)
{
	const Bh__GetStatusReply *status = of_guest->guest->status;

	for (size_t i = 0; i < status->n_peers; i++) {
		struct subject subject = *of_guest;

		subject.process = status->peers[i];
		subject.usage = &of_guest->guest->usage[i];
		subject.labels = labels_with(subject.labels, "process", subject.process->name);
		subject.labels = labels_with(subject.labels, "role", subject.process->role);
		write_one(to, series, &subject);
	}
}

static void write_queues(FILE *to, const struct series *series, const struct subject *of_device)
{
	const Bh__Desired *desired = of_device->device->desired;

	for (size_t i = 0; i < desired->n_rings; i++) {
		struct subject subject = *of_device;
		char index[16];

		subject.ring = desired->rings[i];
		snprintf(index, sizeof(index), "%" PRIu32, subject.ring->index);
		subject.labels = labels_with(subject.labels, "queue", index);
		subject.labels = labels_with(subject.labels, "direction",
			scrape_direction(subject.device, subject.ring->index));
		write_one(to, series, &subject);
	}
}

static void write_devices(FILE *to, const struct series *series, const struct subject *of_guest)
{
	const Bh__GetStatusReply *status = of_guest->guest->status;

	for (size_t i = 0; i < status->n_devices; i++) {
		struct subject subject = *of_guest;

		subject.device = status->devices[i];
		subject.labels = labels_with(subject.labels, "device", subject.device->name);
		if (series->scope == SCOPE_QUEUE)
			write_queues(to, series, &subject);
		else
			write_one(to, series, &subject);
	}
}

static void write_guest(FILE *to, const struct series *series, const struct scraped *guest)
{
	struct subject subject = { .guest = guest };

	subject.labels = labels_with(subject.labels, "guest", guest->guest);
	if (series->scope == SCOPE_GUEST)
		write_one(to, series, &subject);
	else if (guest->status && series->scope == SCOPE_PROCESS)
		write_processes(to, series, &subject);
	else if (guest->status)
		write_devices(to, series, &subject);
}

/* --- The page --- */

static void write_build(FILE *to)
{
	struct labels labels = { .n = 0 };

	exposition_head(to, "bulkhead_build_info", "gauge",
		"The release of bulkheadctl; always 1.");
	labels = labels_with(labels, "version", BULKHEAD_VERSION);
	exposition_sample(to, "bulkhead_build_info", "", &labels, 1);
}

void metrics_write(FILE *to, const struct scrape *scrape)
{
	write_build(to);
	for (size_t i = 0; i < n_series; i++) {
		const struct series *series = &series_table[i];

		exposition_head(to, series->name, series->type, series->help);
		for (size_t j = 0; j < scrape->n; j++)
			write_guest(to, series, &scrape->guests[j]);
	}
}

/* --- Where it goes --- */

static int fail(const char *path, const char *what)
{
	int r = -errno;

	fprintf(stderr, "%s: %s: %s\n", path, what, strerror(-r));
	return r;
}

/* The folder may be another user's, who must not have us write to a file of his choice. */
static FILE *open_new(const char *path)
{
	int fd;

	(void)unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	return fd < 0 ? NULL : fdopen(fd, "w");
}

/* Whoever reads the file sees all of it, or the former one. Its name ends as no collector reads
 * it until then. */
static int write_file(const char *path, const struct scrape *scrape)
{
	_cleanup_free_ char *draft = NULL;
	FILE *file;
	int r = 0;

	check(asprintf(&draft, "%s.%d", path, (int)getpid()) >= 0);
	file = open_new(draft);
	if (!file)
		return fail(path, "cannot be written");
	metrics_write(file, scrape);
	if (fflush(file) != 0 || fchmod(fileno(file), 0644) < 0 || rename(draft, path) < 0) {
		r = fail(path, "cannot be written");
		(void)unlink(draft);
	}
	fclose(file);
	return r;
}

static bool is_connection(int fd)
{
	struct sockaddr_storage address;
	socklen_t n = sizeof(address);

	return getpeername(fd, (struct sockaddr *)(void *)&address, &n) == 0;
}

/* The page is complete before the first byte of a request is read, and then nothing is left of the
 * rights that it took: whoever connects meets a process that can do nothing else. */
static int answer_http(const struct scrape *scrape)
{
	_cleanup_free_ char *page = NULL;
	size_t n = 0;
	FILE *file = open_memstream(&page, &n);
	int r;

	check(file);
	metrics_write(file, scrape);
	check(fclose(file) == 0);
	r = rights_drop();
	if (r < 0) {
		fprintf(stderr, "rights cannot be given up: %s\n", strerror(-r));
		return r;
	}
	return http_answer(STDIN_FILENO, page, n);
}

static int deliver(const struct arguments *args, const struct scrape *scrape)
{
	if (args->http)
		return answer_http(scrape);
	if (args->output)
		return write_file(args->output, scrape);
	metrics_write(stdout, scrape);
	return fflush(stdout) == 0 ? 0 : fail("standard output", "cannot be written");
}

int metrics_run(const struct arguments *args, char *names[], size_t n)
{
	struct scrape scrape;
	struct look look;
	int r;

	if (args->http && !is_connection(STDIN_FILENO))
		return fail("--http",
			"standard input must be a connection, as bulkhead-metrics.socket gives it");
	look_open(&look, args->runtime_dir, args->config_dir);
	scrape_take(&scrape, &look, names, n, true);
	r = n ? scrape_known(&scrape, &look) : 0;
	if (r == 0)
		r = deliver(args, &scrape);
	scrape_free(&scrape);
	look_close(&look);
	return r;
}
