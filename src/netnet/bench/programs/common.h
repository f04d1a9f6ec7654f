/* What the native bench programs share: how they start and fail, loopback addresses, listening, epoll, the clock.
 * No measuring is done here.
 *
 * A program that cannot go on says on standard error what it was doing, and ends with status 1. */
#ifndef NETNET_BENCH_COMMON_H
#define NETNET_BENCH_COMMON_H

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

/* What a system call returns, made again as often as a signal interrupts it. */
#define UNINTERRUPTED(call) \
    ({ ssize_t returned_; do returned_ = (call); while (returned_ < 0 && errno == EINTR); returned_; })

/* For what the system refused: errno says why. */
_Noreturn static inline void die(const char *what) { perror(what); exit(1); }

/* For what is wrong although the system refused nothing. */
_Noreturn static inline void give_up(const char *what) { fprintf(stderr, "%s\n", what); exit(1); }

static inline void all_descriptors(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit)) die("getrlimit");
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit)) die("setrlimit");
}

/* That a peer has left is then an error of the write, not the end of the program: splice(2) has no flag for it. */
static inline void ignore_broken_pipes(void) {
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) die("signal");
}

static inline void *allocated(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (!memory) die("calloc");
    return memory;
}

static inline double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec / 1e9;
}

static inline struct sockaddr_in loopback(unsigned last, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(0x7f000000u + last);
    return address;
}

static inline void set_nodelay(int fd) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

/* A listener on every loopback address and a port of the kernel's choice, which is printed for the caller. */
static inline int listen_and_tell(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t size = sizeof address;
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (void *)&address, sizeof address) || listen(fd, 4096)) die("listen");
    getsockname(fd, (void *)&address, &size);
    printf("port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

/* The next connection that waits, non-blocking; -1 when none does. One that was reset while it waited is passed over. */
static inline int accept_next(int listener) {
    int fd;
    do fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && (errno == EINTR || errno == ECONNABORTED));
    if (fd < 0 && errno != EAGAIN) die("accept");
    return fd;
}

static inline int make_epoll(void) {
    int ep = epoll_create1(EPOLL_CLOEXEC);
    if (ep < 0) die("epoll_create");
    return ep;
}

static inline void epoll_set(int ep, int operation, int fd, uint32_t events, uint64_t data) {
    struct epoll_event event = {.events = events, .data.u64 = data};
    if (epoll_ctl(ep, operation, fd, &event)) die("epoll_ctl");
}

static inline void epoll_add(int ep, int fd, uint32_t events, uint64_t data) {
    epoll_set(ep, EPOLL_CTL_ADD, fd, events, data);
}

static inline void epoll_change(int ep, int fd, uint32_t events, uint64_t data) {
    epoll_set(ep, EPOLL_CTL_MOD, fd, events, data);
}

/* The number of events that are there, within so many milliseconds (-1: however long it takes). */
static inline int await_events(int ep, struct epoll_event *events, int most, int milliseconds) {
    int count = epoll_wait(ep, events, most, milliseconds);
    if (count < 0 && errno != EINTR) die("epoll_wait");
    return count < 0 ? 0 : count;
}

#endif
