#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** ARRAY_SIZE() - the number of elements of an array */
#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))

/* Each use has new variable names, so that uses can be nested. */
#define PICK_(a, b, op, x, y)                                                                      \
	({                                                                                         \
		__typeof__(a) x = (a);                                                             \
		__typeof__(b) y = (b);                                                             \
		x op y ? x : y;                                                                    \
	})
#define PICK_AT_(a, b, op, n) PICK_NAMED_(a, b, op, n)
#define PICK_NAMED_(a, b, op, n) PICK_(a, b, op, pick_a_##n, pick_b_##n)

/** MIN(), MAX() - of two values; each is evaluated once */
#define MIN(a, b) PICK_AT_(a, b, <, __COUNTER__)
#define MAX(a, b) PICK_AT_(a, b, >, __COUNTER__)

#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/** add_overflows() - true when a + b does not fit 64 bits; otherwise *ret = a + b */
static inline bool add_overflows(uint64_t a, uint64_t b, uint64_t *ret)
{
	return __builtin_add_overflow(a, b, ret);
}

/** align_up() - the next multiple of a power of two */
static inline uint64_t align_up(uint64_t n, uint64_t align)
{
	return (n + align - 1) & ~(align - 1);
}

/** is_power_of_2() - whether exactly one bit is set */
static inline bool is_power_of_2(uint64_t n)
{
	return n && !(n & (n - 1));
}

/** has_bit() - whether a bit, counted from 0, is set; bit must be below 64 */
static inline bool has_bit(uint64_t set, unsigned int bit)
{
	return set >> bit & 1;
}

/** container_of() - the object of that type whose member ptr points to */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

#define BIT(n) (UINT64_C(1) << (n))
