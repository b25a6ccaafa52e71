#pragma once

#include <stdbool.h>
#include <stdint.h>

/* The requests of the protocol, with the form in which each is legal. */
struct form {
	uint32_t request, size; /* of its payload */
	bool replies;           /* a reply of its own is owed */
};

#define N_FORMS 45
extern const struct form forms[N_FORMS];
