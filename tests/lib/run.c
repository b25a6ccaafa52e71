#include "lib/run.h"

#include <stdlib.h>

int run_suite(const char *name, void (*add)(Suite *suite))
{
	Suite *suite = suite_create(name);
	SRunner *runner;
	int n_failed;

	add(suite);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	n_failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return n_failed;
}

int run_main(const char *name, void (*add)(Suite *suite))
{
	int n_failed = run_suite(name, add);

	return n_failed && !getenv("CK_TAP_LOG_FILE_NAME") ? EXIT_FAILURE : EXIT_SUCCESS;
}
