/* The window in which the load generator counts, and what it counts: round trips, failures, bytes, and how long things took.
 *
 * Durations go into a log-linear histogram: 128 buckets for each power of two of nanoseconds. So what is read from it is off
 * by 0.4 % at most, and its size does not depend on how many there were. */
#ifndef NETNET_BENCH_LOAD_WINDOW_H
#define NETNET_BENCH_LOAD_WINDOW_H

#include "common.h"

enum { STEP_BITS = 7, STEPS = 1 << STEP_BITS, BUCKETS = (64 - STEP_BITS + 1) * STEPS, LONGEST_WAIT_MS = 100 };

struct histogram { long count, buckets[BUCKETS]; };

static inline int bucket_of(uint64_t ns) {
    int shift = ns < STEPS ? 0 : 63 - STEP_BITS - __builtin_clzll(ns);
    return shift * STEPS + (int)(ns >> shift);
}

/* The nanoseconds in the middle of a bucket. */
static inline double middle_of(int bucket) {
    int shift = bucket < 2 * STEPS ? 0 : bucket / STEPS - 1;
    return (bucket - shift * STEPS + 0.5) * (double)(1ULL << shift);
}

static inline void record(struct histogram *h, double seconds) {
    h->count++;
    h->buckets[bucket_of(seconds > 0 ? (uint64_t)(seconds * 1e9) : 0)]++;
}

/* The microseconds that this share (below 1) of the durations did not exceed; 0 when there are none. */
static inline double percentile_us(const struct histogram *h, double share) {
    long rank = (long)(h->count * share), seen = 0;
    for (int bucket = 0; bucket < BUCKETS; bucket++)
        if ((seen += h->buckets[bucket]) > rank) return middle_of(bucket) / 1e3;
    return 0;
}

/* What has been counted since the window began. */
static struct { long ops, failed; long long received, sent; struct histogram durations; } tally;

static inline void count_trip(double seconds) {
    tally.ops++;
    record(&tally.durations, seconds);
}

static inline void print_percentiles(void) {
    const struct histogram *h = &tally.durations;
    printf(" p50us %.1f p99us %.1f p999us %.1f\n", percentile_us(h, 0.5), percentile_us(h, 0.99), percentile_us(h, 0.999));
}

/* Opens at `next`, to be so many seconds long; while it is open, `next` is when it closes. */
struct window { double next, seconds; int open; };

static inline struct window window_after(double warmup, double seconds) {
    return (struct window){seconds_now() + warmup, seconds, 0};
}

/* How many milliseconds one may wait for events, so that the window opens and closes in time; -1: it is over. When it opens,
 * the caller is told "start", and what was counted before does not count. */
static inline int wait_ms(struct window *w) {
    double now = seconds_now(), left_ms;
    if (now >= w->next && w->open) return -1;
    if (now >= w->next) {
        printf("start\n");
        fflush(stdout);
        memset(&tally, 0, sizeof tally);
        w->open = 1;
        w->next = now + w->seconds;
    }
    left_ms = (w->next - now) * 1e3;
    return left_ms < LONGEST_WAIT_MS ? (int)left_ms + 1 : LONGEST_WAIT_MS;
}

#endif
