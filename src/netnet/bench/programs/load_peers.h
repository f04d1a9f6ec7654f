/* The load generator's connections: how one is made, directly or through a proxy, and how a message goes through it and comes
 * back. Nothing here blocks, and nothing is counted here.
 *
 * They are edge-triggered. A short read or write has emptied or filled the socket, and the next edge tells when there is more
 * (epoll(7)): so no call is made only to be refused, and a small round trip is one send and one recv. */
#ifndef NETNET_BENCH_LOAD_PEERS_H
#define NETNET_BENCH_LOAD_PEERS_H

#include "common.h"

enum {
    EVENTS_MAX = 1024,
    ADDRESSES = 200,
    MAKING_MAX = 100, /* connections in the making at once: no more than a backlog holds */
    PATIENCE_SECONDS = 30, /* without any progress */
    SCRATCH_BYTES = 262144,
    PATTERN_PERIOD = 4099, /* messages begin at so many places of the pattern; a prime, so that each step gets everywhere */
    ANSWER_MAX = 262, /* to a SOCKS5 request, with the longest of names */
};

/* CLOSED: there is no connection. IDLE: it stands, and nothing is awaited. LOST: it stood, and somebody else has ended it. */
enum state { CLOSED, CONNECTING, GREETING, LOGIN, REQUEST, ECHO, IDLE, LOST };

static const char *const STATES[] = {"closed", "connect", "greeting", "login", "request", "echo", "idle", "lost"};

struct peer {
    int fd;
    enum state state;
    size_t need, got, sent; /* of the message, or of the proxy's answer */
    const char *message;
    unsigned place; /* where its last message began */
    double opened, pinged; /* instants of connect(2) and of its last message */
    unsigned char answer[ANSWER_MAX];
};

static struct epoll_event events[EVENTS_MAX];
static int ep;

/* A message is a piece of this; neighbours and messages that follow each other have different ones. */
static char *pattern;

static int version, proxy_port, target_port; /* version: that of SOCKS, 4 or 5; 0: nothing is asked */
static const char *user, *password; /* both or none */

static inline size_t smaller(size_t a, size_t b) { return a < b ? a : b; }

/* Makes a pattern for messages of up to so many bytes. */
static inline void make_pattern(size_t bytes) {
    uint64_t noise = 1;
    pattern = allocated(bytes + PATTERN_PERIOD, 1);
    for (size_t i = 0; i < bytes + PATTERN_PERIOD; i++) {
        noise = noise * 6364136223846793005u + 1442695040888963407u;
        pattern[i] = noise >> 56;
    }
}

static inline struct peer *new_peers(int total) {
    struct peer *peers = allocated(total, sizeof *peers);
    for (int i = 0; i < total; i++) peers[i].place = (i * 61u) % PATTERN_PERIOD;
    return peers;
}

/* -- messages */

/* Sends what fits; 0, or -1 when the connection is lost. */
static inline int send_more(struct peer *p) {
    ssize_t sent = UNINTERRUPTED(send(p->fd, p->message + p->sent, p->need - p->sent, MSG_NOSIGNAL));
    if (sent > 0) p->sent += sent;
    return sent < 0 && errno != EAGAIN ? -1 : 0;
}

/* Begins a round trip of so many bytes; 0, or -1 when the connection is lost. */
static inline int ping(struct peer *p, size_t size, double now) {
    p->state = ECHO;
    p->need = size;
    p->got = p->sent = 0;
    p->place = (p->place + 17) % PATTERN_PERIOD;
    p->message = pattern + p->place;
    p->pinged = now;
    return send_more(p);
}

/* Takes in what has come of the echo. 1: it is whole; 0: not yet; -1: the connection is lost. */
static inline int receive(struct peer *p) {
    static char scratch[SCRATCH_BYTES];
    for (;;) {
        size_t want = smaller(p->need - p->got, sizeof scratch);
        ssize_t got = UNINTERRUPTED(recv(p->fd, scratch, want, 0));
        if (got < 0 && errno == EAGAIN) return 0;
        if (got == 0) errno = ECONNRESET;
        if (got <= 0) return -1;
        if (memcmp(scratch, p->message + p->got, got)) give_up("echo differs");
        p->got += got;
        if (p->got == p->need) return 1;
        if ((size_t)got < want) return 0;
    }
}

/* Goes on with a round trip, as far as what happened allows: as receive(). */
static inline int go_on(struct peer *p, uint32_t happened) {
    if (happened & EPOLLOUT && p->sent < p->need && send_more(p)) return -1;
    return happened & (EPOLLIN | EPOLLERR | EPOLLHUP) ? receive(p) : 0;
}

/* -- connections */

/* Begins to connect, from an address that differs from the last one's; 0, or -1 when that was refused at once. */
static inline int open_peer(struct peer *p, int port) {
    static unsigned rotation;
    struct sockaddr_in to = loopback(1, port), from = loopback(2 + rotation++ % ADDRESSES, 0);
    int one = 1;
    p->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (p->fd < 0) die("socket");
    set_nodelay(p->fd);
    setsockopt(p->fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(p->fd, (void *)&from, sizeof from)) die("bind");
    p->state = CONNECTING;
    p->opened = seconds_now();
    if (connect(p->fd, (void *)&to, sizeof to) && errno != EINPROGRESS) {
        if (errno == EADDRNOTAVAIL) die("no port is left to connect from");
        return -1;
    }
    epoll_add(ep, p->fd, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, (uintptr_t)p);
    return 0;
}

static inline void close_peer(struct peer *p) {
    close(p->fd);
    p->state = CLOSED;
}

/* Sends a few bytes and awaits an answer of so many; 0, or -1 when the connection is lost. */
static inline int ask(struct peer *p, enum state state, const void *question, size_t size, size_t answer) {
    p->state = state;
    p->got = 0;
    p->need = answer;
    return UNINTERRUPTED(send(p->fd, question, size, MSG_NOSIGNAL)) == (ssize_t)size ? 0 : -1;
}

/* Asks for the target, by an address that differs from the last one's. */
static inline int request(struct peer *p) {
    static unsigned rotation;
    struct sockaddr_in to = loopback(1 + rotation++ % ADDRESSES, target_port);
    unsigned char four[9] = {4, 1}, five[10] = {5, 1, 0, 1};
    if (version == 4) {
        memcpy(four + 2, &to.sin_port, 2);
        memcpy(four + 4, &to.sin_addr, 4);
        return ask(p, REQUEST, four, sizeof four, 8);
    }
    memcpy(five + 4, &to.sin_addr, 4);
    memcpy(five + 8, &to.sin_port, 2);
    return ask(p, REQUEST, five, sizeof five, 10);
}

static inline int greet(struct peer *p) {
    const unsigned char greeting[3] = {5, 1, user ? 2 : 0};
    return version == 4 ? request(p) : ask(p, GREETING, greeting, sizeof greeting, 2);
}

/* RFC 1929. */
static inline int log_in(struct peer *p) {
    unsigned char login[3 + 2 * 255] = {1};
    size_t user_bytes = strlen(user), password_bytes = strlen(password);
    login[1] = user_bytes;
    memcpy(login + 2, user, user_bytes);
    login[2 + user_bytes] = password_bytes;
    memcpy(login + 3 + user_bytes, password, password_bytes);
    return ask(p, LOGIN, login, 3 + user_bytes + password_bytes, 2);
}

/* What the second byte of an answer is when it is yes. */
static inline int yes(const struct peer *p) {
    if (p->state == GREETING && user) return 2;
    return p->state == REQUEST && version == 4 ? 90 : 0;
}

/* The whole length of a SOCKS5 reply, of which 5 bytes have come (RFC 1928, section 6). */
static inline size_t reply_bytes(const unsigned char *reply) {
    return reply[3] == 3 ? 7 + reply[4] : reply[3] == 4 ? 22 : 10;
}

/* Takes a step of the way to the target: 1: it is reached; 0: not yet; -1: it failed, errno says how. */
static inline int handshake(struct peer *p, uint32_t happened) {
    if (p->state == CONNECTING && happened & (EPOLLERR | EPOLLHUP)) {
        int error = 0;
        socklen_t size = sizeof error;
        getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size);
        errno = error ? error : ECONNRESET;
        return -1;
    }
    if (p->state == CONNECTING) return version == 0 ? 1 : greet(p);
    while (p->got < p->need) {
        size_t want = p->need - p->got;
        ssize_t got = UNINTERRUPTED(recv(p->fd, p->answer + p->got, want, 0));
        if (got < 0 && errno == EAGAIN) return 0;
        if (got == 0) errno = ECONNRESET;
        if (got <= 0) return -1;
        p->got += got;
        if (p->got >= 2 && p->answer[1] != yes(p)) {
            errno = EACCES;
            return -1;
        }
        if (p->state == REQUEST && version == 5 && p->got >= 5) p->need = reply_bytes(p->answer);
        if ((size_t)got < want && p->got < p->need) return 0;
    }
    if (p->state == GREETING && user) return log_in(p);
    return p->state == REQUEST ? 1 : request(p);
}

/* Takes a step towards a connection that stands, for which, with *echoed*, a byte has gone through it and come back: as
 * handshake(). */
static inline int advance(struct peer *p, uint32_t happened, int echoed) {
    if (p->state == ECHO) return go_on(p, happened);
    int step = handshake(p, happened);
    return step == 1 && echoed ? ping(p, 1, seconds_now()) : step;
}

_Noreturn static inline void die_of(const struct peer *p) {
    if (errno == EACCES && p->got >= 2)
        fprintf(stderr, "%s: the proxy said no, with %d\n", STATES[p->state], p->answer[1]);
    else
        perror(STATES[p->state]);
    exit(1);
}

/* Makes these connections stand, which are there when it returns; *echoed*: see advance(). */
static inline void open_all(struct peer *peers, int total, int echoed) {
    int opened = 0, standing = 0;
    double until = seconds_now() + PATIENCE_SECONDS;
    while (standing < total) {
        for (; opened < total && opened - standing < MAKING_MAX; opened++)
            if (open_peer(&peers[opened], proxy_port)) die_of(&peers[opened]);
        int count = await_events(ep, events, EVENTS_MAX, 1000);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            int step = p->state == IDLE ? 0 : advance(p, events[i].events, echoed);
            if (step < 0) die_of(p);
            if (!step) continue;
            p->state = IDLE;
            standing++;
            until = seconds_now() + PATIENCE_SECONDS;
        }
        if (seconds_now() > until) {
            fprintf(stderr, "%d of %d connections stand, and no more for %d s\n", standing, total, PATIENCE_SECONDS);
            exit(1);
        }
    }
}

/* Waits until the round trips that are under way, so many, have come to an end; returns how many came whole. */
static inline int collect(int pending) {
    int whole = 0;
    double until = seconds_now() + PATIENCE_SECONDS;
    while (pending && seconds_now() < until) {
        int count = await_events(ep, events, EVENTS_MAX, 1000);
        for (int i = 0; i < count; i++) {
            struct peer *p = events[i].data.ptr;
            int step = p->state == ECHO ? go_on(p, events[i].events) : 0;
            if (!step) continue;
            if (step < 0) perror("lost a connection");
            p->state = IDLE;
            pending--;
            whole += step == 1;
            until = seconds_now() + PATIENCE_SECONDS;
        }
    }
    return whole;
}

#endif
