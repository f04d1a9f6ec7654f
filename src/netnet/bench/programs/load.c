/* The load generator: one thread, epoll. Its modes, and what each prints, stand in the table at the end; without arguments it
 * prints them. It speaks to its caller in lines: "port N" where it listens, "start" where its window opens, then results.
 *
 * VERSION is that of SOCKS, 4 or 5; 0: PORT is connected to, and nothing is asked. With LOAD_USER and LOAD_PASSWORD set in
 * the environment, SOCKS5 logs in as this user. Connections come from 127.0.0.2 to 127.0.0.201 in turn, and proxies are asked
 * for 127.0.0.1 to 127.0.0.200 in turn. What is echoed is compared with what was sent. Percentiles of nothing are 0. */
#include "common.h"
#include "load_peers.h"
#include "load_window.h"
#include <sys/timerfd.h>

enum {
    MESSAGE_BYTES = 64, /* of hold and busy */
    SOURCE_BYTES = 262144,
    TURN_BYTES = 262144, /* what one stream sends before the next has its turn */
    TURN_MESSAGES = 64,
    CHURN_MAX = 16, /* connections of a churn that are in the making at once */
    DELAYS_MAX = 1 << 20,
    BYTES_MAX = 1 << 30,
    COUNT_MAX = 1000000,
};

static size_t bytes = MESSAGE_BYTES;

/* -- arguments */

_Noreturn static void misused(const char *text, const char *what) {
    fprintf(stderr, "load: %s: not %s\n", text, what);
    exit(2);
}

static long whole(const char *text, long least, long most) {
    char *end, what[64];
    long number = strtol(text, &end, 10);
    if (end != text && !*end && number >= least && number <= most) return number;
    snprintf(what, sizeof what, "a whole number from %ld to %ld", least, most);
    misused(text, what);
}

static int port(const char *text) { return whole(text, 1, 65535); }

static double span(const char *text) {
    char *end;
    double number = strtod(text, &end);
    if (end == text || *end || !(number >= 0 && number < 1e6)) misused(text, "a time in seconds");
    return number;
}

/* VERSION PORT TARGET_PORT */
static void set_proxy(char **a) {
    version = whole(a[0], 0, 5);
    if (version != 0 && version != 4 && version != 5) misused(a[0], "a version of SOCKS, 4 or 5, or 0");
    proxy_port = port(a[1]);
    target_port = port(a[2]);
}

/* -- echoes */

/* Ping-pong on all peers that are in state ECHO, until the window is over. */
static void ping_pong(struct window w) {
    for (int ms; (ms = wait_ms(&w)) >= 0;) {
        int count = await_events(ep, events, EVENTS_MAX, ms);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            int step = p->state == ECHO ? go_on(p, events[i].events) : 0;
            if (step < 0) die("connection lost");
            if (!step) continue;
            double now = seconds_now();
            count_trip(now - p->pinged);
            if (ping(p, bytes, now)) die("connection lost");
        }
    }
}

static void ping_all(struct peer *peers, int count) {
    for (int i = 0; i < count; i++)
        if (ping(&peers[i], bytes, seconds_now())) die("connection lost");
}

static void print_trips(void) {
    printf("ops %ld", tally.ops);
    print_percentiles();
    fflush(stdout);
}

static void echo_mode(char **a) {
    int connections = whole(a[1], 1, COUNT_MAX);
    struct peer *peers = new_peers(connections);
    proxy_port = port(a[0]);
    bytes = whole(a[2], 1, BYTES_MAX);
    double warmup = span(a[3]), seconds = span(a[4]);
    make_pattern(bytes);
    open_all(peers, connections, 1);
    ping_all(peers, connections);
    ping_pong(window_after(warmup, seconds));
    print_trips();
}

static void hold_mode(char **a) {
    char line[64];
    int total = whole(a[3], 1, COUNT_MAX), busy = whole(a[4], 0, total), pending = 0;
    double seconds = span(a[5]);
    struct peer *peers = new_peers(total);
    set_proxy(a);
    make_pattern(bytes);
    open_all(peers, total, 0);
    printf("held %d\n", total);
    fflush(stdout);
    if (!fgets(line, sizeof line, stdin)) return;
    ping_all(peers, busy);
    ping_pong(window_after(0, seconds));
    print_trips();
    if (collect(busy) < busy) give_up("busy connections were lost");
    for (int i = 0; i < total; i++) {
        if (!ping(&peers[i], 1, 0)) { pending++; continue; }
        perror("lost a connection");
        peers[i].state = IDLE;
    }
    printf("alive %d\n", collect(pending));
}

static struct { long ops, late; } pings;

/* Pings the next in turn, as many as are due; one that still waits for its answer is passed over. */
static void ping_due(int timer, struct peer *peers, int total) {
    static unsigned next;
    uint64_t due;
    if (read(timer, &due, sizeof due) < 0) return;
    for (; due; due--, next++) {
        struct peer *p = &peers[next % total];
        if (p->state == ECHO) pings.late++;
        else if (ping(p, bytes, 0)) die("connection lost");
    }
}

static int timer_of(long a_second) {
    long interval = 1000000000L / a_second;
    struct timespec pause = {interval / 1000000000L, interval % 1000000000L};
    struct itimerspec every = {pause, pause};
    int timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0 || timerfd_settime(timer, 0, &every, NULL)) die("timerfd");
    return timer;
}

static void busy_mode(char **a) {
    enum { TICK, STDIN }; /* what events name that are no peer's */
    int total = whole(a[3], 1, COUNT_MAX);
    long a_second = whole(a[4], 1, 1000000);
    struct peer *peers = new_peers(total);
    set_proxy(a);
    make_pattern(bytes);
    open_all(peers, total, 0);
    int timer = timer_of(a_second);
    epoll_add(ep, timer, EPOLLIN, TICK);
    epoll_add(ep, STDIN_FILENO, EPOLLIN, STDIN);
    printf("busy %d\n", total);
    fflush(stdout);
    for (;;) {
        int count = await_events(ep, events, EVENTS_MAX, -1);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            if (events[i].data.u64 == STDIN) {
                printf("ops %ld late %ld\n", pings.ops, pings.late);
                return;
            }
            if (events[i].data.u64 == TICK) { ping_due(timer, peers, total); continue; }
            int step = p->state == ECHO ? go_on(p, events[i].events) : 0;
            if (step < 0) die("connection lost");
            if (step) { p->state = IDLE; pings.ops++; }
        }
    }
}

/* -- delays: two connections in turn, blocking, so that nothing but their own way counts */

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* One round trip on a blocking socket, in seconds. */
static double round_trip(struct peer *p) {
    double began = seconds_now();
    if (ping(p, bytes, began)) die("connection lost");
    for (int step; !(step = go_on(p, EPOLLIN | EPOLLOUT));) {}
    if (p->got < p->need) die("connection lost");
    return seconds_now() - began;
}

static void print_delays(const char *what, double *delays, long count) {
    qsort(delays, count, sizeof *delays, by_value);
    printf(" %s %.2f %.2f", what, delays[count / 2] * 1e6, delays[count * 99 / 100] * 1e6);
}

static void delay_mode(char **a) {
    struct peer *direct = new_peers(1), *proxied = new_peers(1);
    double *directly = allocated(DELAYS_MAX, sizeof *directly), *through = allocated(DELAYS_MAX, sizeof *through);
    long count = 0;
    int opened = 0;
    bytes = whole(a[3], 1, BYTES_MAX);
    make_pattern(bytes);
    proxy_port = port(a[2]);
    open_all(direct, 1, 0);
    set_proxy(a);
    open_all(proxied, 1, 0);
    if (fcntl(direct->fd, F_SETFL, 0) || fcntl(proxied->fd, F_SETFL, 0)) die("fcntl");
    for (struct window w = window_after(span(a[4]), span(a[5])); count < DELAYS_MAX && wait_ms(&w) >= 0; count++) {
        if (w.open && !opened) { opened = 1; count = 0; }
        directly[count] = round_trip(direct);
        through[count] = round_trip(proxied);
    }
    if (!opened || !count) give_up("no round trip");
    printf("ops %ld", count);
    print_delays("direct", directly, count);
    print_delays("proxied", through, count);
    printf("\n");
}

/* -- bulk */

/* Sends messages, one call each, until a turn is over; what does not fit of one is not made up for. Returns the bytes sent, or
 * -1 when the connection is gone. */
static ssize_t send_turn(int fd) {
    ssize_t total = 0;
    for (int messages = 0; messages < TURN_MESSAGES && total < TURN_BYTES; messages++) {
        ssize_t sent = UNINTERRUPTED(send(fd, pattern, bytes, MSG_NOSIGNAL));
        if (sent < 0 && errno == EAGAIN) break;
        if (sent < 0) return -1;
        total += sent;
        if ((size_t)sent < bytes) break;
    }
    return total;
}

/* Receives and drops: the bytes, 0 at the end of the stream, -1 on an error, which is EAGAIN when there is nothing. */
static ssize_t drop(int fd) { return UNINTERRUPTED(recv(fd, NULL, 1 << 20, MSG_TRUNC)); }

static void take_streams(int listener) {
    for (int fd; (fd = accept_next(listener)) >= 0;) {
        set_nodelay(fd);
        epoll_add(ep, fd, EPOLLIN | EPOLLOUT, fd);
    }
}

/* The end of what comes is no reason to send no more: it may be only half closed. */
static void serve_stream(int fd, uint32_t happened) {
    int lost = 0;
    if (happened & EPOLLIN) {
        ssize_t got = drop(fd);
        if (got == 0) epoll_change(ep, fd, EPOLLOUT, fd);
        lost = got < 0 && errno != EAGAIN;
    }
    if (!lost && happened & (EPOLLOUT | EPOLLERR | EPOLLHUP)) lost = send_turn(fd) < 0;
    if (lost) close(fd);
}

static void source_mode(char **a) {
    bytes = a[0] ? whole(a[0], 1, BYTES_MAX) : SOURCE_BYTES;
    make_pattern(bytes);
    int listener = listen_and_tell();
    epoll_add(ep, listener, EPOLLIN, listener);
    for (;;) {
        int count = await_events(ep, events, 64, -1);
        for (int i = 0; i < count; i++)
            if (events[i].data.u64 == (uint64_t)listener) take_streams(listener);
            else serve_stream(events[i].data.u64, events[i].events);
    }
}

static ssize_t pulled(int fd) {
    ssize_t got = drop(fd);
    if (got == 0) give_up("connection lost: it has ended");
    if (got < 0 && errno != EAGAIN) die("connection lost");
    return got > 0 ? got : 0;
}

static ssize_t pushed(int fd) {
    ssize_t sent = send_turn(fd);
    if (sent < 0) die("connection lost");
    return sent;
}

static void pull_mode(char **a) {
    int streams = whole(a[3], 1, COUNT_MAX);
    struct peer *peers = new_peers(streams);
    set_proxy(a);
    bytes = whole(a[4], 0, BYTES_MAX);
    double warmup = span(a[5]), seconds = span(a[6]);
    make_pattern(bytes);
    open_all(peers, streams, 0);
    for (int i = 0; i < streams; i++) /* from now on level-triggered: each has its turn */
        epoll_change(ep, peers[i].fd, bytes ? EPOLLIN | EPOLLOUT : EPOLLIN, (uintptr_t)&peers[i]);
    struct window w = window_after(warmup, seconds);
    for (int ms; (ms = wait_ms(&w)) >= 0;) {
        int count = await_events(ep, events, 64, ms);
        for (int i = 0; i < count; i++) {
            int fd = ((struct peer *)events[i].data.ptr)->fd;
            if (events[i].events & ~EPOLLOUT) tally.received += pulled(fd);
            if (events[i].events & EPOLLOUT) tally.sent += pushed(fd);
        }
    }
    printf("bytes %lld sent %lld\n", tally.received, tally.sent);
}

/* -- connections that come and go */

/* Those that are to be opened, in the next turn of the loop, when no event names what they were before. */
static struct { struct peer **peers; int count; } due;

static void open_later(struct peer *p) { due.peers[due.count++] = p; }

static void replace(struct peer *p) {
    close_peer(p);
    open_later(p);
}

static void fail(struct peer *p) {
    tally.failed++;
    replace(p);
}

static void open_due(void) {
    int count = due.count;
    due.count = 0;
    for (int i = 0; i < count; i++)
        if (open_peer(due.peers[i], proxy_port)) fail(due.peers[i]);
}

/* Those that stand, the oldest first; `churn.peers` is a ring. */
static struct { struct peer **peers; int total, first, count; } churn;

static void stand(struct peer *p) {
    p->state = IDLE;
    churn.peers[(churn.first + churn.count++) % churn.total] = p;
}

static void replace_oldest(void) {
    struct peer *oldest = churn.peers[churn.first];
    churn.first = (churn.first + 1) % churn.total;
    churn.count--;
    replace(oldest);
}

static void stand_in_place_of_oldest(struct peer *p) {
    stand(p);
    replace_oldest();
}

/* One that stands and has been ended has failed; it is replaced in its turn. */
static void look_after(struct peer *p, uint32_t happened) {
    if (!(happened & (EPOLLRDHUP | EPOLLERR | EPOLLHUP))) return;
    tally.failed++;
    p->state = LOST;
}

static int is_in_the_making(const struct peer *p) { return p->state > CLOSED && p->state < IDLE; }

/* Opens what is due, again and again; one that is through, a byte echoed, is handed on. Prints the result. */
static void make_connections(struct window w, void (*hand_on)(struct peer *)) {
    for (int ms; (ms = wait_ms(&w)) >= 0;) {
        open_due();
        int count = await_events(ep, events, EVENTS_MAX, due.count ? 0 : ms);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            if (p->state == IDLE) look_after(p, events[i].events);
            int step = is_in_the_making(p) ? advance(p, events[i].events, 1) : 0;
            if (step < 0) fail(p);
            if (step <= 0) continue;
            count_trip(seconds_now() - p->opened);
            hand_on(p);
        }
    }
    printf("ops %ld failed %ld", tally.ops, tally.failed);
    print_percentiles();
}

/* What socks and churn begin with: so many peers, not opened yet. */
static struct peer *new_crowd(char **a, int total) {
    set_proxy(a);
    make_pattern(1);
    due.peers = allocated(total, sizeof *due.peers);
    return new_peers(total);
}

static void socks_mode(char **a) {
    int at_once = whole(a[3], 1, COUNT_MAX);
    double warmup = span(a[4]), seconds = span(a[5]);
    struct peer *peers = new_crowd(a, at_once);
    for (int i = 0; i < at_once; i++) open_later(&peers[i]);
    make_connections(window_after(warmup, seconds), replace);
}

static void churn_mode(char **a) {
    int standing = whole(a[3], 1, COUNT_MAX);
    double warmup = span(a[4]), seconds = span(a[5]);
    struct peer *peers = new_crowd(a, standing);
    churn.peers = allocated(standing, sizeof *churn.peers);
    churn.total = standing;
    open_all(peers, standing, 1);
    for (int i = 0; i < standing; i++) stand(&peers[i]);
    for (int i = 0; i < standing && i < CHURN_MAX; i++) replace_oldest();
    make_connections(window_after(warmup, seconds), stand_in_place_of_oldest);
}

/* -- modes */

static const struct mode { const char *name; int least, most; void (*run)(char **); const char *arguments, *what; } MODES[] = {
    {"echo", 5, 5, echo_mode, "PORT CONNECTIONS BYTES WARMUP SECONDS",
     "ping-pong on all, once a byte has gone through each: start; ops N p50us A p99us B p999us C"},
    {"source", 0, 1, source_mode, "[BYTES]",
     "a server that sends messages without end, one call each, and drops what comes: port N"},
    {"pull", 7, 7, pull_mode, "VERSION PORT TARGET_PORT STREAMS BYTES WARMUP SECONDS",
     "receives and drops, and sends messages of BYTES without end (0: sends nothing): start; bytes RECEIVED sent SENT"},
    {"delay", 6, 6, delay_mode, "VERSION PORT TARGET_PORT BYTES WARMUP SECONDS",
     "ping-pong on a connection to the target and one through the proxy, in turn: start; ops N direct P50 P99 proxied P50 P99,"
     " in microseconds"},
    {"busy", 5, 5, busy_mode, "VERSION PORT TARGET_PORT CONNECTIONS A_SECOND",
     "pings in turn, so many a second in all, passing over one that awaits its answer: busy N; after a line on stdin ops N"
     " late L"},
    {"socks", 6, 6, socks_mode, "VERSION PORT TARGET_PORT AT_ONCE WARMUP SECONDS",
     "connect, request, one byte echoed, close: start; ops N failed F p50us A p99us B p999us C"},
    {"churn", 6, 6, churn_mode, "VERSION PORT TARGET_PORT STANDING WARMUP SECONDS",
     "so many stand, and the oldest are replaced, 16 at once: as socks; one that stands and is lost has failed too"},
    {"hold", 6, 6, hold_mode, "VERSION PORT TARGET_PORT CONNECTIONS BUSY SECONDS",
     "opens them: held N; after a line on stdin ping-pong on BUSY of them: start; ops N p50us A p99us B p999us C; then a byte"
     " through each: alive N"},
};

enum { MODES_COUNT = sizeof MODES / sizeof *MODES };

static int usage(void) {
    for (int i = 0; i < MODES_COUNT; i++)
        fprintf(stderr, "load %s %s\n    %s\n", MODES[i].name, MODES[i].arguments, MODES[i].what);
    return 2;
}

static void read_login(void) {
    user = getenv("LOAD_USER");
    password = getenv("LOAD_PASSWORD");
    if (!user || !password) user = password = NULL;
    else if (!*user || strlen(user) > 255 || !*password || strlen(password) > 255)
        misused("LOAD_USER, LOAD_PASSWORD", "1 to 255 bytes each");
}

int main(int argc, char **argv) {
    for (int i = 0; argc > 1 && i < MODES_COUNT; i++) {
        const struct mode *m = &MODES[i];
        if (strcmp(argv[1], m->name) || argc - 2 < m->least || argc - 2 > m->most) continue;
        all_descriptors();
        ignore_broken_pipes();
        read_login();
        ep = make_epoll();
        m->run(argv + 2);
        return 0;
    }
    return usage();
}
