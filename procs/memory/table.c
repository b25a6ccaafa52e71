/* Who may ask what over the bus; the other table is in links.c. */
#include "memory.h"

#include "quarantine.h"
#include "records.h"
#include "status.h"
#include "traces.h"
#include "transfers.h"
#include "watch.h"

#define REQ(x) BH__ENVELOPE__BODY_##x

const struct bus_row memory_table[] = {
	{ REQ(COMMIT_DESIRED), REQ(COMMIT_DESIRED_REPLY), ROLE_FRONTEND, handle_commit_desired },
	{ REQ(WATCH_OBSERVED), REQ(WATCH_OBSERVED_REPLY), ROLE_FRONTEND, handle_watch_of_frontend },
	{ REQ(WATCH_DESIRED), REQ(WATCH_DESIRED_REPLY), ROLE_WORKER, handle_watch_desired },
	{ REQ(REPORT_OBSERVED), REQ(REPORT_OBSERVED_REPLY), ROLE_WORKER, handle_report_observed },
	{ REQ(GET_STATUS), REQ(GET_STATUS_REPLY), ROLE_CTL, handle_get_status },
	{ REQ(RELEASE_DEVICE), REQ(RELEASE_DEVICE_REPLY), ROLE_CTL, handle_release_device },
	{ REQ(WATCH_TRANSFERS), REQ(WATCH_TRANSFERS_REPLY), ROLE_SNAPSHOT | ROLE_CTL,
		handle_watch_transfers },
	{ REQ(REPORT_TRANSFER), REQ(REPORT_TRANSFER_REPLY), ROLE_SNAPSHOT | ROLE_WORKER,
		handle_report_transfer },
	{ REQ(WATCH_TRACE), REQ(WATCH_TRACE_REPLY), ROLE_CTL, handle_watch_trace },
	{ REQ(REPORT_TRACE), REQ(REPORT_TRACE_REPLY), ROLE_FRONTEND, handle_report_trace },
	{ 0 },
};
