/* The load generator. It speaks to its caller in lines: "port N", "start", then results; SIGTERM ends it.
 *
 *   load echo PORT CONNECTIONS BYTES WARMUP SECONDS         ping-pong; prints "start", then "ops N p50us A p99us B"
 *   load source                                             a server that sends without end
 *   load pull VERSION PORT TARGET_PORT STREAMS WARMUP SECONDS
 *        receives and drops; prints "start", then "bytes N"
 *   load delay VERSION PORT TARGET_PORT BYTES WARMUP SECONDS
 *        ping-pong on one connection to the target and one through the proxy, in turn; prints "start", then
 *        "ops N direct P50 P99 proxied P50 P99", in microseconds
 *   load busy VERSION PORT TARGET_PORT CONNECTIONS A_SECOND
 *        pings on these in turn, so many a second in all; one that waits for its answer is passed over. Prints "busy N"
 *        when all are through, and after a line on stdin "ops N late L"
 *   load socks VERSION PORT TARGET_PORT AT_ONCE WARMUP SECONDS
 *        connect, request, one byte echoed, close; prints "start", then "ops N failed F"
 *   load hold VERSION PORT TARGET_PORT CONNECTIONS BUSY SECONDS
 *        opens proxied connections; prints "held N", waits for a line on stdin; then ping-pong on BUSY of them while the
 *        others idle, prints "ops N"; then one byte through each of all, prints "alive N"
 *
 * VERSION is that of SOCKS, 4 or 5; 0: PORT is connected to, and nothing is asked.
 */
#include "common.h"
#include <sys/timerfd.h>

enum { CONNECTING, GREETING, REQUEST, ECHO, IDLE };

struct peer { int fd, state, got, need; double sent; };

static struct epoll_event events[1024];
static int ep;
static char scratch[1 << 20];
static int bytes = 64;
static unsigned rotation;

static int version, proxy_port, target_port;

static void open_peer(struct peer *p, int port) {
    struct sockaddr_in to = loopback(1, port), from = loopback(2 + rotation++ % 200, 0);
    int one = 1;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0) die("socket");
    set_nodelay(p->fd);
    setsockopt(p->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(p->fd, (void *)&from, sizeof from)) die("bind");
    if (connect(p->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) die("connect");
    p->state = CONNECTING;
    p->got = 0;
    epoll_add(ep, p->fd, EPOLLIN | EPOLLOUT | EPOLLET | EPOLLRDHUP, (uintptr_t)p);
}

static void send_all(int fd, const void *data, int size) {
    for (int done = 0; done < size;) {
        int sent = send(fd, (const char *)data + done, size - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) { usleep(50); continue; }
        if (sent < 0) return;
        done += sent;
    }
}

static void send_request(struct peer *p) {
    struct sockaddr_in to = loopback(1 + rotation++ % 200, target_port);
    unsigned char m4[9] = {4, 1}, m5[10] = {5, 1, 0, 1};
    memcpy(version == 4 ? m4 + 2 : m5 + 8, &to.sin_port, 2);
    memcpy(version == 4 ? m4 + 4 : m5 + 4, &to.sin_addr, 4);
    send_all(p->fd, version == 4 ? m4 : m5, version == 4 ? 9 : 10);
    p->state = REQUEST;
    p->got = 0;
    p->need = version == 4 ? 8 : 10;
}

static void ping(struct peer *p, int size) {
    p->state = ECHO;
    p->got = 0;
    p->need = size;
    p->sent = seconds_now();
    send_all(p->fd, scratch, size);
}

/* Takes one step of the SOCKS handshake. 1: through; 0: not yet; -1: failed. */
static int handshake(struct peer *p) {
    unsigned char reply[16];
    if (p->state == CONNECTING) {
        if (version == 0) return 1;
        if (version == 5) {
            send_all(p->fd, "\5\1", 3);
            p->state = GREETING;
            p->need = 2;
        } else {
            send_request(p);
        }
    }
    for (;;) {
        int got = recv(p->fd, reply + p->got, p->need - p->got, 0);
        if (got < 0) return errno == EAGAIN ? 0 : -1;
        if (got == 0) return -1;
        p->got += got;
        if (p->got < p->need) continue;
        if (p->state == REQUEST) return reply[1] == (version == 4 ? 90 : 0) ? 1 : -1;
        if (reply[1] != 0) return -1;
        send_request(p);
    }
}

/* Opens so many connections, with their handshakes; no more at once than a backlog holds. */
static struct peer *open_through(int total) {
    struct peer *peers = calloc(total, sizeof *peers);
    for (int first = 0; first < total; first += 100) {
        int last = first + 100 < total ? first + 100 : total;
        for (int i = first; i < last; i++) open_peer(&peers[i], proxy_port);
        int reached = 0;
        double until = seconds_now() + 30;
        while (reached < last - first && seconds_now() < until) {
            int count = epoll_wait(ep, events, 1024, 100);
            for (int i = 0; i < count; i++) {
                struct peer *p = events[i].data.ptr;
                int through = p->state == IDLE ? 0 : handshake(p);
                if (through == 1) { p->state = IDLE; p->got = p->need = 0; reached++; }
                if (through == -1) die("handshake");
            }
        }
        if (reached < last - first) die("handshakes took too long");
    }
    return peers;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double *delays;
static long delay_count, delay_max = 1 << 20;

/* Ping-pong on all peers that are in state ECHO, until the instant `until`; returns the round trips after `from`. */
static long ping_pong(double from, double until) {
    long ops = 0;
    int started = 0;
    for (;;) {
        double now = seconds_now();
        if (!started && now >= from) { printf("start\n"); fflush(stdout); started = 1; ops = 0; delay_count = 0; }
        if (now >= until) return ops;
        int count = epoll_wait(ep, events, 1024, 100);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            if (p->state == CONNECTING && events[i].events & EPOLLOUT) { ping(p, bytes); continue; }
            if (p->state != ECHO || !(events[i].events & EPOLLIN)) continue;
            for (;;) {
                int got = recv(p->fd, scratch, p->need - p->got, 0);
                if (got < 0) break;
                if (got == 0) die("connection lost");
                p->got += got;
                if (p->got == p->need) {
                    if (delay_count < delay_max) delays[delay_count++] = seconds_now() - p->sent;
                    ops++;
                    ping(p, bytes);
                    break;
                }
            }
        }
    }
}

static void print_delays(void) {
    qsort(delays, delay_count, sizeof *delays, by_value);
    if (delay_count)
        printf(" p50us %.0f p99us %.0f", delays[delay_count / 2] * 1e6, delays[delay_count * 99 / 100] * 1e6);
}

static int echo_mode(char **a) {
    int port = atoi(a[0]), connections = atoi(a[1]);
    bytes = atoi(a[2]);
    struct peer *peers = calloc(connections, sizeof *peers);
    for (int i = 0; i < connections; i++) {
        open_peer(&peers[i], port);
        if (i % 100 == 99) usleep(5000);
    }
    double from = seconds_now() + atof(a[3]), until = from + atof(a[4]);
    printf("ops %ld", ping_pong(from, until));
    print_delays();
    printf("\n");
    return 0;
}

static void source_mode(void) {
    int listener = listen_and_tell(), peer;
    epoll_add(ep, listener, EPOLLIN, listener);
    for (;;) {
        int count = epoll_wait(ep, events, 64, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.u64;
            if (fd == listener) {
                while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
                    epoll_add(ep, peer, EPOLLOUT, peer);
            } else if (send(fd, scratch, 262144, MSG_NOSIGNAL) < 0 && errno != EAGAIN) {
                close(fd);
            }
        }
    }
}

static int pull_mode(char **a) {
    version = atoi(a[0]), proxy_port = atoi(a[1]), target_port = atoi(a[2]);
    int streams = atoi(a[3]), started = 0;
    struct peer *peers = open_through(streams);
    for (int i = 0; i < streams; i++) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = &peers[i]};
        epoll_ctl(ep, EPOLL_CTL_MOD, peers[i].fd, &event);
    }
    double from = seconds_now() + atof(a[4]), until = from + atof(a[5]);
    long long total = 0;
    for (;;) {
        double now = seconds_now();
        if (!started && now >= from) { printf("start\n"); fflush(stdout); started = 1; total = 0; }
        if (now >= until) break;
        int count = epoll_wait(ep, events, 64, 100);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            ssize_t got = recv(p->fd, NULL, 1 << 20, MSG_TRUNC);
            if (got == 0) die("connection lost");
            if (got > 0) total += got;
        }
    }
    printf("bytes %lld\n", total);
    return 0;
}

/* One round trip on a blocking socket, in seconds. */
static double round_trip(int fd) {
    double sent = seconds_now();
    send_all(fd, scratch, bytes);
    for (int got, left = bytes; left; left -= got)
        if ((got = recv(fd, scratch, left, 0)) <= 0) die("connection lost");
    return seconds_now() - sent;
}

static void print_percentiles(const char *what, double *sorted, long count) {
    qsort(sorted, count, sizeof *sorted, by_value);
    printf(" %s %.2f %.2f", what, sorted[count / 2] * 1e6, sorted[count * 99 / 100] * 1e6);
}

static int delay_mode(char **a) {
    target_port = proxy_port = atoi(a[2]);
    int direct = open_through(1)->fd, started = 0;
    version = atoi(a[0]), proxy_port = atoi(a[1]);
    int proxied = open_through(1)->fd;
    bytes = atoi(a[3]);
    fcntl(direct, F_SETFL, 0);
    fcntl(proxied, F_SETFL, 0);
    double *through = malloc(delay_max * sizeof *through);
    double from = seconds_now() + atof(a[4]), until = from + atof(a[5]), now;
    for (delay_count = 0; (now = seconds_now()) < until && delay_count < delay_max; delay_count++) {
        if (!started && now >= from) { printf("start\n"); fflush(stdout); started = 1; delay_count = 0; }
        delays[delay_count] = round_trip(direct);
        through[delay_count] = round_trip(proxied);
    }
    if (!started || !delay_count) die("no round trip");
    printf("ops %ld", delay_count);
    print_percentiles("direct", delays, delay_count);
    print_percentiles("proxied", through, delay_count);
    printf("\n");
    return 0;
}

enum { TICK, STDIN }; /* what events name that are no peer's */

static int busy_mode(char **a) {
    version = atoi(a[0]), proxy_port = atoi(a[1]), target_port = atoi(a[2]);
    int total = atoi(a[3]), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    long interval = 1000000000L / atoi(a[4]), ops = 0, late = 0;
    struct timespec span = {interval / 1000000000L, interval % 1000000000L};
    struct itimerspec every = {span, span};
    struct peer *peers = open_through(total);
    if (timerfd_settime(timer, 0, &every, NULL)) die("timerfd");
    epoll_add(ep, timer, EPOLLIN, TICK);
    epoll_add(ep, 0, EPOLLIN, STDIN);
    printf("busy %d\n", total);
    fflush(stdout);
    for (unsigned next = 0;;) {
        int count = epoll_wait(ep, events, 1024, -1);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            uint64_t due = 0;
            if (events[i].data.u64 == STDIN) {
                printf("ops %ld late %ld\n", ops, late);
                return 0;
            }
            if (events[i].data.u64 == TICK) {
                if (read(timer, &due, sizeof due) < 0) continue;
                for (; due; due--, next++) {
                    p = &peers[next % total];
                    if (p->got < p->need) late++; else ping(p, bytes);
                }
                continue;
            }
            if (p->got == p->need) continue;
            int got = recv(p->fd, scratch, p->need - p->got, 0);
            if (got == 0) die("connection lost");
            if (got > 0 && (p->got += got) == p->need) ops++;
        }
    }
}

static int socks_mode(char **a) {
    version = atoi(a[0]), proxy_port = atoi(a[1]), target_port = atoi(a[2]);
    int at_once = atoi(a[3]), started = 0;
    struct peer *peers = calloc(at_once, sizeof *peers);
    for (int i = 0; i < at_once; i++) open_peer(&peers[i], proxy_port);
    double from = seconds_now() + atof(a[4]), until = from + atof(a[5]);
    long ops = 0, failed = 0;
    for (;;) {
        double now = seconds_now();
        if (!started && now >= from) { printf("start\n"); fflush(stdout); started = 1; ops = failed = 0; }
        if (now >= until) break;
        int count = epoll_wait(ep, events, 1024, 100);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            int through = 0;
            if (p->state == ECHO) {
                through = recv(p->fd, scratch, 1, 0);
                if (through < 0 && errno == EAGAIN) continue;
                through = through == 1 ? 1 : -1;
            } else if ((through = handshake(p)) == 1) {
                ping(p, 1);
                continue;
            }
            if (!through) continue;
            if (through == 1) ops++; else failed++;
            close(p->fd);
            open_peer(p, proxy_port);
        }
    }
    printf("ops %ld failed %ld\n", ops, failed);
    return 0;
}

static void await(int total, int state_wanted, const char *what) {
    int reached = 0;
    double until = seconds_now() + 60;
    while (reached < total && seconds_now() < until) {
        int count = epoll_wait(ep, events, 1024, 100);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            if (p->state == IDLE) continue;
            int through = 0;
            if (p->state == ECHO) {
                through = recv(p->fd, scratch, 1, 0);
                if (through < 0 && errno == EAGAIN) continue;
                through = through == 1 ? 1 : -1;
            } else {
                through = handshake(p);
            }
            if (through == 1) { p->state = state_wanted; reached++; }
            if (through == -1) { p->state = IDLE; fprintf(stderr, "lost a connection\n"); }
        }
    }
    printf("%s %d\n", what, reached);
    fflush(stdout);
}

static int hold_mode(char **a) {
    version = atoi(a[0]), proxy_port = atoi(a[1]), target_port = atoi(a[2]);
    int total = atoi(a[3]), busy = atoi(a[4]);
    double span = atof(a[5]);
    struct peer *peers = open_through(total);
    printf("held %d\n", total);
    fflush(stdout);
    if (!fgets(scratch, sizeof scratch, stdin)) return 0;
    for (int i = 0; i < busy; i++) ping(&peers[i], bytes);
    double from = seconds_now();
    printf("ops %ld", ping_pong(from, from + span));
    print_delays();
    printf("\n");
    for (int i = 0; i < busy; i++) /* the last answer of each is under way */
        while (peers[i].got < peers[i].need) {
            int got = recv(peers[i].fd, scratch, peers[i].need - peers[i].got, 0);
            if (got == 0) die("connection lost");
            if (got > 0) peers[i].got += got; else usleep(100);
        }
    for (int i = 0; i < total; i++) ping(&peers[i], 1);
    await(total, IDLE, "alive");
    return 0;
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    all_descriptors();
    ep = epoll_create1(0);
    delays = malloc(delay_max * sizeof *delays);
    memset(scratch, 'x', sizeof scratch);
    if (!strcmp(argv[1], "echo") && argc == 7) return echo_mode(argv + 2);
    if (!strcmp(argv[1], "source")) source_mode();
    if (!strcmp(argv[1], "pull") && argc == 8) return pull_mode(argv + 2);
    if (!strcmp(argv[1], "delay") && argc == 8) return delay_mode(argv + 2);
    if (!strcmp(argv[1], "busy") && argc == 7) return busy_mode(argv + 2);
    if (!strcmp(argv[1], "socks") && argc == 8) return socks_mode(argv + 2);
    if (!strcmp(argv[1], "hold") && argc == 8) return hold_mode(argv + 2);
    return 2;
}
