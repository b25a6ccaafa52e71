#include "ring-case.h"

#include <string.h>

struct rig rig;
bool packed;
static bool begun;

void end(void)
{
	if (begun)
		rig_deinit(&rig);
	begun = false;
}

TCase *ring_tcase(Suite *suite, const char *name)
{
	TCase *tc = tcase_create(name);

	tcase_set_timeout(tc, 60);
	tcase_add_checked_fixture(tc, NULL, end);
	suite_add_tcase(suite, tc);
	return tc;
}

void begin(int i, uint32_t size)
{
	packed = i & 1;
	rig_init(&rig, size, packed);
	begun = true;
}

void begin_started(int i, uint32_t size)
{
	begin(i, size);
	rig_start(&rig);
}

bool post1(uint32_t cookie)
{
	struct seg seg = { BUF(cookie % 100), 64, cookie & 1 };

	return driver_post(&rig.d, &seg, 1, 0, cookie);
}

void post_all(uint32_t cookie, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		ck_assert(post1(cookie + i));
}

struct virtq_chain *next_chain(void)
{
	must(virtq_fill(rig.vq, virtq_window_len(rig.vq) + 1) == (int)virtq_window_len(rig.vq));
	must(virtq_window_len(rig.vq) > 0);
	return virtq_window(rig.vq, virtq_window_len(rig.vq) - 1);
}

void pass(uint32_t cookie, unsigned int n)
{
	ck_assert_uint_eq(rig_serve(&rig, n + 1), n);
	ck_assert_uint_eq(rig_reap_all(&rig, cookie), n);
}

void finish(const struct virtq_chain *chain, uint32_t n_bytes)
{
	virtq_take(rig.vq, 1);
	virtq_complete(rig.vq, chain, n_bytes);
	virtq_publish(rig.vq);
}

int start_with(struct virtq_setup setup)
{
	struct virtq *vq = NULL;
	int r = virtq_start(&vq, &setup, rig.m.map, &rig.ledger, rig.inflight);

	ck_assert(r == 0 || vq == NULL);
	virtq_stop(vq);
	return r;
}

void bad_and_on(const char *rule)
{
	struct virtq_chain *chain = next_chain();
	uint32_t cookie = 0, len = 1;

	ck_assert(chain->bad);
	ck_assert_ptr_nonnull(strstr(chain->rule, rule));
	ck_assert_uint_eq(chain->n_in + chain->n_out, 0);
	ck_assert_uint_eq(chain->in_bytes + chain->out_bytes, 0);
	finish(chain, 10);
	ck_assert_int_eq(driver_reap(&rig.d, &cookie, &len), 1);
	ck_assert_uint_eq(cookie, 5);
	ck_assert_uint_eq(len, 0);
	ck_assert(post1(6));
	chain = next_chain();
	ck_assert(!chain->bad);
	ck_assert_ptr_null(chain->rule);
	pass(6, 1);
}
