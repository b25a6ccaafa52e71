#include "batch.h"

#include "base/check.h"

bool batch_may_grow(const struct batch *batch)
{
	return batch->n < BATCH_MAX && !batch->n_alone;
}

void batch_add(struct batch *batch, const struct header *header, Bh__Desired *desired)
{
	check(batch_may_grow(batch));
	batch->headers[batch->n++] = *header;
	batch->n_bytes += sizeof(*header) + header->size;
	if (!desired)
		return;
	desired_free(batch->desired);
	batch->desired = desired;
}

void batch_clear(struct batch *batch)
{
	batch->desired = desired_free(batch->desired);
	batch->n_bytes = 0;
	batch->n = 0;
}

void batch_taken(struct batch *batch)
{
	batch->n_taken += batch->n;
	batch_clear(batch);
}

void batch_taken_alone(struct batch *batch)
{
	batch->n_taken++;
	if (batch->n_alone)
		batch->n_alone--;
}

void batch_take_apart(struct batch *batch)
{
	batch->n_alone = batch->n + 1;
	batch_clear(batch);
}
