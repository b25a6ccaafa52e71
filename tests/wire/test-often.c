/*
 * Every request, wrong in each way, 10,000 times (BULKHEAD_FULL=1; else a sample): no descriptor
 * and no memory stays behind in any process, and the witness's frames go on.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "forms.h"
#include "often.h"
#include "rig.h"

#define N_WAYS ((int)(sizeof(ways) / sizeof(ways[0])))
#define TIMES (getenv("BULKHEAD_FULL") ? 10000u : 10u)
#define WITNESS_EVERY 2000
#define BYTES_MAX 64

/* how a message is wrong */
static const struct way {
	const char *what;
	int more;       /* bytes of payload than it has */
	uint8_t fill;   /* each byte of the payload */
	size_t n_fds;   /* descriptors */
	uint32_t flags; /* beside the version */
} ways[] = {
	{ "all zero", 0, 0, 0, VU_NEED_REPLY },
	{ "all ones", 0, 0xff, 0, VU_NEED_REPLY },
	{ "too long", 1, 0, 0, VU_NEED_REPLY },
	{ "too short", -1, 0, 0, VU_NEED_REPLY },
	{ "with a descriptor", 0, 0, 1, VU_NEED_REPLY },
	{ "with 8 descriptors of ones", 0, 0xff, 8, VU_NEED_REPLY },
	{ "without need_reply", 0, 0xff, 1, 0 },
};

static struct vu_client c;
static int spare_fds[8];

static void begin(void)
{
	rig_hello(&c, ~VU_BIT(VU_PF_INBAND));
}

/* Until the answer to the question behind it: others may come before. False: the session is
 * over. */
static bool is_survived(uint32_t request)
{
	struct vu_header ask = { request == VU_GET_FEATURES ? VU_GET_PROTOCOL_FEATURES
							    : VU_GET_FEATURES,
		VU_VERSION, 0 };
	struct vu_msg msg;
	bool asked = false;
	int r = vu_send(&c, &ask, NULL, NULL, 0);

	for (int i = 0; i < 3 && !r && !asked; i++) {
		r = vu_recv(&c, &msg);
		if (r)
			break;
		asked = msg.head.request == ask.request;
		vu_msg_deinit(&msg);
	}
	ck_assert_msg(!r || r == -ECONNRESET || r == -EPIPE, "%d %s", r, c.why);
	return !r && asked;
}

static unsigned int send_often(const struct form *f, const struct way *w)
{
	uint8_t payload[BYTES_MAX];
	struct vu_header head = { f->request, VU_VERSION | w->flags, f->size };
	unsigned int n_sessions = 0;

	if (w->more > 0 || f->size > 0)
		head.size = (uint32_t)((int)f->size + w->more);
	memset(payload, w->fill, sizeof(payload));
	begin();
	for (unsigned int i = 0; i < TIMES; i++) {
		if (vu_send(&c, &head, payload, spare_fds, w->n_fds) == 0 &&
			is_survived(f->request))
			continue;
		vu_close(&c);
		begin();
		n_sessions++;
		if (n_sessions % WITNESS_EVERY == 0)
			rig_check_witness();
	}
	vu_close(&c);
	return n_sessions;
}

/* covers: M1 M3 M7 M9 M10 M11 M12 M16 M17 M19 M20 M22 M23 M24 M26 M28 */
START_TEST(test_wrong_message_leaves_nothing_however_often)
{
	const struct form *f = &forms[_i];
	struct often before, after;
	char why[200];

	for (size_t i = 0; i < 8; i++)
		spare_fds[i] = eventfd(0, EFD_CLOEXEC);
	rig_check_net0(); /* leaves what it leaves in the end */
	often_note(&before, &rig);
	for (int k = 0; k < N_WAYS; k++)
		(void)send_often(f, &ways[k]);
	rig_check_net0();
	ck_assert_msg(!often_has_grown(&before, &after, why), "request %u: %s", f->request, why);
}
END_TEST

static void add(Suite *suite)
{
	TCase *tc = rig_case(suite, "often");

	tcase_set_timeout(tc, getenv("BULKHEAD_FULL") ? 1800 : 120);
	tcase_add_loop_test(tc, test_wrong_message_leaves_nothing_however_often, 0, N_FORMS);
}

int main(void)
{
	struct suite_device net0 = { .backend = "echo", .queue_pairs = 2, .mtu = 1500 };

	return rig_main("often", &net0, add);
}
