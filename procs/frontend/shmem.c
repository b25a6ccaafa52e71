/*
 * A look compares the journal with the worker's report: both are short, so it is done anew each
 * time, and nothing has to be kept between two looks.
 *
 * Nothing is sent to a VMM whose device is suspended. The worker's report counts once a ring runs
 * that this VMM has started: by then the worker knows that the maps of another VMM are gone.
 */
#include "shmem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/check.h"
#include "base/cleanup.h"
#include "exchange.h"
#include "record/record.h"

#define NEEDS                                                                                      \
	(BIT(VHOST_USER_PROTOCOL_F_SHMEM) | BIT(VHOST_USER_PROTOCOL_F_BACKEND_REQ) |               \
		BIT(VHOST_USER_PROTOCOL_F_BACKEND_SEND_FD) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK))

/** enum fate - of a map that the worker reports */
enum fate {
	FATE_UNKNOWN, /* the VMM is still to be asked */
	FATE_PENDING, /* it has been asked, or is to be asked to unmap first */
	FATE_MADE,
	FATE_REFUSED,
};

/** struct look - the report, and what the VMM has */
struct look {
	const Bh__Observed *observed;
	uint8_t fates[RECORD_SHMEM_MAPS_MAX]; /* enum fate, of observed->shmem_maps */
	struct journal_map *leaving;          /* one that is to be unmapped; NULL = none is */
};

/* --- What may be done --- */

/* A ring that the worker has started counts, since it has done so after all that came before. */
static bool is_running(const struct exchange *x)
{
	const Bh__Desired *desired = x->view->desired;

	for (size_t i = 0; i < desired->n_rings; i++)
		if (desired->rings[i]->started &&
			desired->rings[i]->start_id <= x->view->observed->applied)
			return true;
	return false;
}

static bool can_ask(const struct exchange *x)
{
	return channel_answers(&x->channel) &&
		(x->view->desired->protocol_features & NEEDS) == NEEDS;
}

/* --- Looking --- */

/* By its number: the report is sorted by it. Returns n where there is none. */
static size_t find(const Bh__Observed *observed, uint64_t seq)
{
	size_t low = 0, n = MIN(observed->n_shmem_maps, (size_t)RECORD_SHMEM_MAPS_MAX), high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (observed->shmem_maps[middle]->seq < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && observed->shmem_maps[low]->seq == seq ? low : n;
}

static size_t n_maps(const struct look *look)
{
	return MIN(look->observed->n_shmem_maps, (size_t)RECORD_SHMEM_MAPS_MAX);
}

static void set_fate(struct look *look, uint64_t seq, enum fate fate)
{
	size_t i = find(look->observed, seq);

	if (i < n_maps(look))
		look->fates[i] = (uint8_t)fate;
}

static void look_at_map(struct look *look, struct journal *journal, struct journal_map *map)
{
	bool wanted = map->seq && find(look->observed, map->seq) < n_maps(look);

	if (map->state == MAP_FREE)
		return;
	if (map->state == MAP_DOUBTFUL || (map->state == MAP_MADE && !wanted))
		look->leaving = map;
	else if (map->state == MAP_REFUSED && !wanted)
		journal_drop(journal, map);
	if (wanted)
		set_fate(look, map->seq,
			map->state == MAP_MADE              ? FATE_MADE
				: map->state == MAP_REFUSED ? FATE_REFUSED
							    : FATE_PENDING);
}

static bool is_of_this_epoch(const struct exchange *x)
{
	return x->view->desired->shmem_epoch == x->view->observed->shmem_epoch;
}

/* A journal may be lost, to another release's. */
static void restore(struct look *look, struct journal *journal, uint64_t seq)
{
	size_t i = find(look->observed, seq);

	if (!journal || i == n_maps(look) || look->fates[i] != FATE_UNKNOWN)
		return;
	journal_note_made(journal, look->observed->shmem_maps[i]);
	look->fates[i] = FATE_MADE;
}

/* What was refused stays so, even if the VMM could be asked by now. */
static void look_at_record(struct look *look, const struct exchange *x)
{
	const Bh__Desired *desired = x->view->desired;

	if (!is_of_this_epoch(x))
		return;
	for (size_t i = 0; i < desired->n_shmem_mapped; i++)
		restore(look, x->channel.journal, desired->shmem_mapped[i]);
	for (size_t i = 0; i < desired->n_shmem_refused; i++)
		set_fate(look, desired->shmem_refused[i], FATE_REFUSED);
}

static void refuse_rest(struct look *look)
{
	for (size_t i = 0; i < n_maps(look); i++)
		if (look->fates[i] != FATE_MADE)
			look->fates[i] = FATE_REFUSED;
}

/* From the last entry on: dropping one may shorten the list. */
static void look_at_all(struct look *look, const struct exchange *x)
{
	struct journal *journal = x->channel.journal;

	*look = (struct look){ .observed = x->view->observed };
	for (uint32_t i = journal ? journal->n_maps : 0; i-- > 0;)
		look_at_map(look, journal, &journal->maps[i]);
	look_at_record(look, x);
	if (!can_ask(x))
		refuse_rest(look);
}

/* --- Asking --- */

static void fetch(struct exchange *x, uint64_t token)
{
	struct shmem *shmem = &x->shmem;

	shmem->fd = fd_close(shmem->fd);
	shmem->token = token;
	shmem->asked = x->view->observed->generation;
	shmem->fetching = x->ops->fetch(x->session, token) == 0;
}

void shmem_fetched(struct exchange *exchange, int fd)
{
	struct shmem *shmem = &exchange->shmem;

	shmem->fetching = false;
	shmem->fd = fd < 0 ? -1 : fd;
	if (fd < 0)
		shmem->in_vain = shmem->asked;
}

void shmem_forget(struct exchange *exchange)
{
	fd_close(exchange->shmem.fd);
	exchange->shmem = (struct shmem)SHMEM_NULL;
}

static void ask_to_unmap(struct exchange *x, const struct journal_map *map)
{
	const struct shmem_mapping mapping = {
		.region = (uint8_t)map->region, .offset = map->offset_bytes, .size = map->size_bytes
	};

	(void)channel_ask(&x->channel, BACKEND_SHMEM_UNMAP, map, &mapping, -1);
}

static void ask_to_map(struct exchange *x, const Bh__ShmemMap *wanted)
{
	const struct shmem_mapping mapping = { .region = (uint8_t)wanted->region,
		.fd_offset = wanted->fd_offset_bytes,
		.offset = wanted->offset_bytes,
		.size = wanted->size_bytes,
		.flags = wanted->writable ? SHMEM_MAPPING_WRITABLE : 0 };
	struct journal_map *map = journal_add(x->channel.journal, wanted);

	if (!map || channel_ask(&x->channel, BACKEND_SHMEM_MAP, map, &mapping, x->shmem.fd) < 0)
		return;
	x->shmem.fd = fd_close(x->shmem.fd);
}

/* A token that memory does not know is one of a report that was overtaken: the next one is waited
 * for. */
static void make(struct exchange *x, const Bh__ShmemMap *wanted)
{
	struct shmem *shmem = &x->shmem;

	if (shmem->fetching || x->inband.fetching)
		return;
	if (shmem->fd >= 0 && shmem->token == wanted->token)
		ask_to_map(x, wanted);
	else if (shmem->in_vain != x->view->observed->generation)
		fetch(x, wanted->token);
}

static void ask_next(struct exchange *x, const struct look *look)
{
	const struct journal *journal = x->channel.journal;

	if (!can_ask(x) || !journal || journal->step != JOURNAL_IDLE)
		return;
	if (look->leaving) {
		ask_to_unmap(x, look->leaving);
		return;
	}
	for (size_t i = 0; i < n_maps(look); i++)
		if (look->fates[i] == FATE_UNKNOWN) {
			make(x, look->observed->shmem_maps[i]);
			return;
		}
}

/* --- Telling --- */

static size_t collect(const struct look *look, enum fate fate, uint64_t **ret_list)
{
	uint64_t *list = malloc((n_maps(look) + 1) * sizeof(*list));
	size_t n = 0;

	check(list);
	for (size_t i = 0; i < n_maps(look); i++)
		if (look->fates[i] == fate)
			list[n++] = look->observed->shmem_maps[i]->seq;
	*ret_list = list;
	return n;
}

static void set_list(const struct look *look, enum fate fate, uint64_t **list, size_t *n)
{
	free(*list);
	*n = collect(look, fate, list);
}

static bool lists(const uint64_t *list, size_t n, uint64_t seq)
{
	size_t low = 0, high = n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (list[middle] < seq)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n && list[low] == seq;
}

static bool is_told(const struct exchange *x, uint64_t seq, enum fate fate)
{
	const Bh__Desired *desired = x->view->desired;

	if (fate != FATE_MADE && fate != FATE_REFUSED)
		return true;
	if (!is_of_this_epoch(x))
		return false;
	return fate == FATE_MADE ? lists(desired->shmem_mapped, desired->n_shmem_mapped, seq)
				 : lists(desired->shmem_refused, desired->n_shmem_refused, seq);
}

static bool has_news(const struct exchange *x, const struct look *look)
{
	for (size_t i = 0; i < n_maps(look); i++)
		if (!is_told(x, look->observed->shmem_maps[i]->seq, look->fates[i]))
			return true;
	return false;
}

/* Between two messages: the message in work has a record of its own. */
static bool tell(struct exchange *x, const struct look *look)
{
	Bh__Desired *next;

	if (!exchange_is_idle(x) || !has_news(x, look))
		return false;
	next = view_next(x->view, x->view->desired);
	next->shmem_epoch = look->observed->shmem_epoch;
	set_list(look, FATE_MADE, &next->shmem_mapped, &next->n_shmem_mapped);
	set_list(look, FATE_REFUSED, &next->shmem_refused, &next->n_shmem_refused);
	exchange_change(x, next);
	return true;
}

bool shmem_run(struct exchange *exchange)
{
	struct journal *journal = exchange->channel.journal;
	const Bh__Observed *observed = exchange->view->observed;
	struct look look;

	if (exchange->conn_fd < 0 || !exchange->view->desired->connected ||
		(!observed->n_shmem_maps && !(journal && journal->n_maps)))
		return false;
	if (!is_running(exchange)) {
		if (journal)
			journal_suspend(journal);
		return false;
	}
	if (journal && journal->shmem_epoch != observed->shmem_epoch)
		journal_begin_epoch(journal, observed->shmem_epoch);
	look_at_all(&look, exchange);
	ask_next(exchange, &look);
	return tell(exchange, &look);
}
