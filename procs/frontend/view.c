#include "view.h"

static void free_observed(Bh__Observed *observed)
{
	if (observed)
		bh__observed__free_unpacked(observed, NULL);
}

void view_load(struct view *view, Bh__Desired *desired, Bh__Observed *observed)
{
	view_deinit(view);
	view->desired = desired;
	view->observed = observed;
}

void view_deinit(struct view *view)
{
	view->desired = desired_free(view->desired);
	free_observed(view->observed);
	view->observed = NULL;
}

Bh__Desired *view_next(const struct view *view, const Bh__Desired *from)
{
	Bh__Desired *next = desired_next(from);

	next->generation = view->desired->generation + 1;
	rings_settle(next, view->desired, view->observed, &view->heard);
	return next;
}

Bh__Desired *view_put_in_force(struct view *view, Bh__Desired *next)
{
	Bh__Desired *before = view->desired;

	view->desired = next;
	return before;
}

/* The next report may be of a worker that has not looked at the rings yet: what this one said of
 * them is kept. */
void view_observe(struct view *view, Bh__Observed *observed)
{
	if (view_applied(view))
		rings_hear(&view->heard, view->desired, view->observed->rings,
			view->observed->n_rings);
	free_observed(view->observed);
	view->observed = observed;
}

/* A worker that has applied the record knows better than the ledger where its rings have
 * stopped. */
void view_hear(struct view *view, bool worker_gone, Bh__RingState *const *states, size_t n)
{
	view->worker_gone = worker_gone;
	if (!worker_gone)
		view->waited_in_vain = false;
	if (!view_applied(view))
		rings_hear(&view->heard, view->desired, states, n);
}
