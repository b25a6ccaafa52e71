/* Stores are ordered: a step is noted by the last of them. */
#include "journal.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/check.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "fd/fdstore.h"

#define NAME_BYTES 64
#define PUT(field, value) __atomic_store_n(&(field), value, __ATOMIC_RELEASE)

/* --- The file --- */

static const char *store_name(const char *device, char *buf)
{
	snprintf(buf, NAME_BYTES, "asked.%s", device);
	return buf;
}

/* fd: -1 = without a file */
static struct journal *map_file(int fd)
{
	int flags = fd < 0 ? MAP_SHARED | MAP_ANONYMOUS : MAP_SHARED;
	void *mem = mmap(NULL, sizeof(struct journal), PROT_READ | PROT_WRITE, flags, fd, 0);

	return mem == MAP_FAILED ? NULL : mem;
}

/* The one who died has sent it, or has not. */
static void doubt(struct journal *journal)
{
	struct journal_map *map = &journal->maps[journal->at];

	if (journal->request == BACKEND_SHMEM_MAP) {
		PUT(journal->counts.n_before, journal->counts.n_unmaps);
		PUT(journal->counts.doubtful, 1);
	}
	PUT(map->state, MAP_DOUBTFUL);
	PUT(journal->step, JOURNAL_IDLE);
}

void journal_recover(struct journal *journal)
{
	if (journal->step == JOURNAL_SENDING)
		doubt(journal);
}

/* A file of another size is another release's: its VMM may be told once too often. */
struct journal *journal_resume(const char *device)
{
	char name[NAME_BYTES];
	_cleanup_close_ int fd = fdstore_take(store_name(device, name));
	struct journal *journal = NULL;
	struct stat st;

	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && st.st_size == sizeof(struct journal))
		journal = map_file(fd);
	if (!journal)
		(void)fdstore_remove(name);
	else
		journal_recover(journal);
	return journal;
}

/* Without a file the next process tells the VMM once more. */
struct journal *journal_begin(const char *device, uint64_t config_seq)
{
	char name[NAME_BYTES];
	_cleanup_close_ int fd = file_sealed("bulkhead-asked", sizeof(struct journal));
	struct journal *journal = map_file(fd);

	check(journal);
	journal->told_config_seq = config_seq;
	if (fd >= 0)
		(void)fdstore_push(store_name(device, name), fd);
	return journal;
}

struct journal *journal_close(struct journal *journal)
{
	if (journal)
		(void)munmap(journal, sizeof(*journal));
	return NULL;
}

struct journal *journal_end(struct journal *journal, const char *device)
{
	char name[NAME_BYTES];

	if (journal)
		(void)fdstore_remove(store_name(device, name));
	return journal_close(journal);
}

/* --- Maps --- */

struct journal_map *journal_add(struct journal *journal, const Bh__ShmemMap *wanted)
{
	uint32_t i = 0;

	while (i < journal->n_maps && journal->maps[i].state != MAP_FREE)
		i++;
	if (i == JOURNAL_MAPS_MAX)
		return NULL;
	journal->maps[i] = (struct journal_map){ .seq = wanted->seq,
		.offset_bytes = wanted->offset_bytes,
		.size_bytes = wanted->size_bytes,
		.region = wanted->region };
	if (i == journal->n_maps)
		PUT(journal->n_maps, i + 1);
	return &journal->maps[i];
}

void journal_note_made(struct journal *journal, const Bh__ShmemMap *made)
{
	struct journal_map *map = journal_add(journal, made);

	if (map)
		PUT(map->state, MAP_MADE);
}

void journal_drop(struct journal *journal, struct journal_map *map)
{
	PUT(map->state, MAP_FREE);
	while (journal->n_maps && journal->maps[journal->n_maps - 1].state == MAP_FREE)
		PUT(journal->n_maps, journal->n_maps - 1);
}

void journal_renew(struct journal *journal)
{
	PUT(journal->heard, 0);
	if (journal->step != JOURNAL_IDLE)
		doubt(journal);
	journal->counts = (struct journal_counts){ .answered = journal->asked,
		.refused = journal->counts.refused };
}

void journal_suspend(struct journal *journal)
{
	if (journal->step != JOURNAL_IDLE && journal->request == BACKEND_SHMEM_MAP)
		PUT(journal->late, 1);
}

void journal_begin_epoch(struct journal *journal, uint64_t epoch)
{
	for (uint32_t i = journal->n_maps; i-- > 0;) {
		struct journal_map *map = &journal->maps[i];
		bool last = journal->at == i;

		map->seq = 0;
		if (last && journal->late && map->state == MAP_MADE)
			PUT(map->state, MAP_DOUBTFUL);
		else if (map->state != MAP_DOUBTFUL && !(last && journal->step != JOURNAL_IDLE))
			journal_drop(journal, map);
	}
	PUT(journal->late, 0);
	PUT(journal->shmem_epoch, epoch);
}

/* --- Steps --- */

void journal_sending(struct journal *journal, uint32_t request, const struct journal_map *map)
{
	check(journal->step == JOURNAL_IDLE);
	journal->request = request;
	journal->at = (uint32_t)(map - journal->maps);
	PUT(journal->late, 0);
	if (request == BACKEND_SHMEM_MAP)
		PUT(journal->maps[journal->at].state, MAP_ASKED);
	else
		PUT(journal->counts.n_unmaps, journal->counts.n_unmaps + 1);
	PUT(journal->step, JOURNAL_SENDING);
}

void journal_sent(struct journal *journal, bool sent)
{
	if (!sent && journal->request == BACKEND_SHMEM_MAP)
		journal_drop(journal, &journal->maps[journal->at]);
	else if (!sent)
		PUT(journal->counts.n_unmaps, journal->counts.n_unmaps - 1);
	PUT(journal->step, sent ? JOURNAL_SENT : JOURNAL_IDLE);
}

/* None is sent while another one is in doubt, so the answer is its own, and nothing of what was
 * sent before it can still be answered. A refusal of SHMEM_UNMAP says that it was not there. */
static void end_request(struct journal *journal)
{
	struct journal_map *map = &journal->maps[journal->at];

	if (journal->step != JOURNAL_SENT || journal->heard != journal->request)
		return;
	if (journal->request == BACKEND_SHMEM_MAP) {
		PUT(journal->counts.n_unmaps, 0);
		PUT(map->state, journal->heard_value ? MAP_REFUSED : MAP_MADE);
	} else {
		PUT(map->state, journal->counts.doubtful ? MAP_DOUBTFUL : MAP_FREE);
	}
	PUT(journal->step, JOURNAL_IDLE);
	if (map->state == MAP_FREE)
		journal_drop(journal, map);
}

static void count(const struct journal *journal, uint32_t request, uint64_t value,
	struct journal_counts *counts)
{
	if (request == BACKEND_CONFIG_CHANGE_MSG && counts->answered < journal->asked) {
		counts->answered++;
		counts->refused += value != 0;
	}
	if (request != BACKEND_SHMEM_UNMAP)
		return;
	counts->n_unmaps -= counts->n_unmaps > 0;
	if (counts->n_before)
		counts->n_before--;
	else
		counts->doubtful = 0;
}

void journal_hear(struct journal *journal, uint32_t request, uint64_t value)
{
	journal->heard_value = value;
	journal->counts_after = journal->counts;
	count(journal, request, value, &journal->counts_after);
	PUT(journal->heard, request);
}

void journal_heard(struct journal *journal)
{
	journal->counts = journal->counts_after;
	end_request(journal);
	PUT(journal->heard, 0);
}
