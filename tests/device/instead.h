#pragma once

/* The product's programs, with a worker of the tests in the place of bulkhead-net. */

/* a folder (template for mkdtemp()) with links to them, which the product is told of by its
 * environment; worker: below the build folder. 0 or -1 */
int instead_open(char *dir, const char *build, const char *worker);
void instead_close(const char *dir);
