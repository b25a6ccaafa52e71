/*
 * A worker maps the regions that pass here and looks guest addresses up in them, so no number may
 * wrap and no two regions may contain the same address. A file that shrinks later would kill a
 * process that touches it. Files are sealed against that where they can be (memfds that allow
 * sealing); elsewhere the worker's SIGBUS guard catches it. The guard covers guest memory and the
 * dirty log, so the file of an in-flight region must be sealed.
 */
#include "regions.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/bytes.h"
#include "fd/kind.h"

#define HEX "0x%llx"
#define NUM(x) ((unsigned long long)(x))

static int check_numbers(const Bh__Region *r, char *text, size_t n_text)
{
	uint64_t end;

	if (r->size_bytes == 0) {
		snprintf(text, n_text, "the memory region at guest address " HEX " has no size",
			NUM(r->gpa));
		return 1;
	}
	if (add_overflows(r->gpa, r->size_bytes, &end) ||
		add_overflows(r->uva, r->size_bytes, &end) ||
		add_overflows(r->offset_bytes, r->size_bytes, &end) || end > INT64_MAX) {
		snprintf(text, n_text,
			"the memory region at guest address " HEX " of " HEX " bytes wraps around",
			NUM(r->gpa), NUM(r->size_bytes));
		return 1;
	}
	return 0;
}

static bool overlap(uint64_t a, uint64_t na, uint64_t b, uint64_t nb)
{
	return a < b + nb && b < a + na;
}

int regions_check_table(Bh__Region *const *regions, size_t n, char *text, size_t n_text)
{
	if (n > VHOST_USER_MAX_RAM_SLOTS) {
		snprintf(text, n_text, "%zu memory regions; at most %d are possible", n,
			VHOST_USER_MAX_RAM_SLOTS);
		return 1;
	}
	for (size_t i = 0; i < n; i++) {
		const Bh__Region *a = regions[i];

		if (check_numbers(a, text, n_text))
			return 1;
		for (size_t j = 0; j < i; j++) {
			const Bh__Region *b = regions[j];

			if (!overlap(a->gpa, a->size_bytes, b->gpa, b->size_bytes) &&
				!overlap(a->uva, a->size_bytes, b->uva, b->size_bytes))
				continue;
			snprintf(text, n_text,
				"the memory regions at guest addresses " HEX " and " HEX " overlap",
				NUM(a->gpa), NUM(b->gpa));
			return 1;
		}
	}
	return 0;
}

static bool seal_against_shrinking(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	if (seals >= 0 && (seals & F_SEAL_SHRINK))
		return true;
	return seals >= 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0;
}

int regions_check_file(int fd, Bh__Region *region, char *text, size_t n_text)
{
	unsigned long long gpa = NUM(region->gpa);
	char kind[FD_KIND_TEXT_BYTES];
	struct stat st;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fd_kind_of(fd, kind) != FD_MEMORY) {
		snprintf(text, n_text,
			"the descriptor of the memory region at guest address " HEX
			" is not a file of memory "
			"(start the VMM with shared memory: memory-backend-memfd,share=on)",
			gpa);
		return 1;
	}
	if ((flags & O_ACCMODE) != O_RDWR) {
		snprintf(text, n_text,
			"the file of the memory region at guest address " HEX " is not writable",
			gpa);
		return 1;
	}
	/* seal first: a file that is measured first could shrink in between */
	region->sealed = seal_against_shrinking(fd);
	if (fstat(fd, &st) < 0 ||
		(uint64_t)st.st_size < region->offset_bytes + region->size_bytes) {
		snprintf(text, n_text,
			"the file of the memory region at guest address " HEX
			" has %lld bytes, the region ends "
			"at " HEX,
			gpa, (long long)st.st_size, NUM(region->offset_bytes + region->size_bytes));
		return 1;
	}
	return 0;
}

static bool is_sealed_against_writing(int fd)
{
	int seals = fcntl(fd, F_GET_SEALS);

	return seals >= 0 && (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE));
}

int regions_check_log(int fd, const Bh__Log *log, char *text, size_t n_text)
{
	char kind[FD_KIND_TEXT_BYTES];
	int flags = fcntl(fd, F_GETFL);
	uint64_t end;
	struct stat st;

	if (flags < 0 || fd_kind_of(fd, kind) != FD_MEMORY || (flags & O_ACCMODE) != O_RDWR ||
		is_sealed_against_writing(fd)) {
		snprintf(text, n_text, "the file of the dirty log is no writable file of memory");
		return 1;
	}
	(void)seal_against_shrinking(fd);
	if (add_overflows(log->mmap_offset, log->mmap_size, &end) || fstat(fd, &st) < 0 ||
		(uint64_t)st.st_size < end) {
		snprintf(text, n_text,
			"the file of the dirty log is too short for " HEX " bytes at offset " HEX,
			NUM(log->mmap_size), NUM(log->mmap_offset));
		return 1;
	}
	return 0;
}

/* Huge pages are refused: a page can be missing at the first access, whatever the size of the file
 * is. */
static bool is_plain_memfd(int fd)
{
	struct statfs fs;
	int flags = fcntl(fd, F_GETFL);

	/* a file with seals lies in memory, so fstat() does not ask a file server */
	return fcntl(fd, F_GET_SEALS) >= 0 && fstatfs(fd, &fs) == 0 && fs.f_type == TMPFS_MAGIC &&
		flags >= 0 && (flags & O_ACCMODE) == O_RDWR;
}

int regions_check_inflight(int fd, const Bh__Inflight *inflight, char *text, size_t n_text)
{
	uint64_t end;
	struct stat st;

	if (!is_plain_memfd(fd) || !seal_against_shrinking(fd) || is_sealed_against_writing(fd)) {
		snprintf(text, n_text,
			"the file of the in-flight region is no writable memfd that can be sealed against shrinking "
			"(hand back the one that GET_INFLIGHT_FD gave)");
		return 1;
	}
	if (add_overflows(inflight->mmap_offset, inflight->mmap_size, &end) || fstat(fd, &st) < 0 ||
		(uint64_t)st.st_size < end) {
		snprintf(text, n_text,
			"the file of the in-flight region is too short for " HEX
			" bytes at offset " HEX,
			NUM(inflight->mmap_size), NUM(inflight->mmap_offset));
		return 1;
	}
	return 0;
}
