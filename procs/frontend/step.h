#pragma once

/* What a message in work may have come to (exchange.h), and what it may wait for. */

/** enum step - of a message, in the order of a message that takes them all */
enum step {
	STEP_PEEK,     /* no message is in work: look for the next one, behind those of the batch */
	STEP_CHECK,    /* is it right in form: the columns of the request table */
	STEP_JUDGE,    /* its meaning: the handler makes the next record, or refuses it */
	STEP_DEPOSIT,  /* its descriptors go into the vault; then it is judged again */
	STEP_TRANSFER, /* a transfer of the device's state is begun; then it is judged again */
	STEP_PENDING,  /* that transfer's end is waited for; likewise */
	STEP_LINGER,   /* it only prepares, and the next one may be under way: that is waited for */
	STEP_JOIN,     /* it owes no answer, and another one is behind it: it goes into the batch */
	STEP_COMMIT,   /* the next record is put in force */
	STEP_TAKE,     /* the batch is taken out of the socket */
	STEP_WAIT,     /* for the worker to apply it */
	STEP_PROBE,    /* the worker is quiet; is it memory that is away? */
	STEP_UNDO,     /* the worker could not apply it: the former record is put in force again */
	STEP_STAGE,    /* the reply is laid ready */
	STEP_CONSUME,  /* the message is taken out of the socket */
	STEP_SEND,     /* the reply goes out */
	STEP_VMM,      /* no message is in work: a VMM has come or gone, and the record is told */
	_STEPS,

	/* what a step may return in place of the next one */
	STEP_AWAIT = _STEPS, /* an answer, a message or room in the socket is waited for */
	STEP_DONE,           /* the message is answered */
	STEP_TURNED,         /* the record knows that a VMM has come or gone */
	STEP_HANG_UP,        /* the connection is to be ended */
};

/** enum awaits - the answer without which a step cannot go on */
enum awaits {
	AWAITS_NOTHING, /* none: PEEK and SEND try again whenever something happens at the socket */
	AWAITS_VAULT,   /* exchange_deposited(), exchange_redeemed(), exchange_begun() */
	AWAITS_TRANSFER, /* exchange_transferred() */
	AWAITS_MEMORY,   /* exchange_committed() */
	AWAITS_WORKER,   /* exchange_observed(), and exchange_timeout() */
	AWAITS_MORE,     /* exchange_heard(), and exchange_timeout() */
	AWAITS_TIME,     /* exchange_timeout(): then the step begins anew */
};
