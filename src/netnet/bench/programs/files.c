/* Downloads: a server of files that are made from a seed, and a client that tells how long one took and what it held.
 *
 *   files serve SEED                                     prints "port N" and "congestion NAME"; listens on all addresses
 *   files fetch VERSION PROXY PROXY_PORT TARGET TARGET_PORT BYTES
 *                                                        prints "bytes N seconds S connect C hash H"
 *   files hash SEED BYTES                                prints "hash H", of what the server sends
 *
 * A request is a count of bytes, 8 of them, the highest first; the answer is so many bytes, and the end. They repeat after
 * PERIOD_BYTES, a prime, so that no skipped or doubled buffer of a usual size goes unseen. VERSION is that of SOCKS, 4 or 5, or
 * 0: straight to the target, PROXY and PROXY_PORT are not used. S are the seconds from connect(2) to the end of the stream, C
 * those to the first byte of the answer. There is no protocol of files: what is compared is how bytes pass. */
#include "common.h"

#define PERIOD_BYTES 20000003
#define RECEIVE_BYTES 262144
#define LANES 4
#define STRIPE_BYTES (LANES * 8)

/* -- what a file holds */

/* One period; behind it room for the last word. */
static char *make_period(uint64_t seed) {
    size_t words = PERIOD_BYTES / 8 + 1;
    uint64_t *period = allocated(words, sizeof *period);
    for (size_t i = 0; i < words; i++) { /* splitmix64 */
        uint64_t word = seed + (i + 1) * 0x9e3779b97f4a7c15u;
        word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
        word = (word ^ word >> 27) * 0x94d049bb133111ebu;
        period[i] = htole64(word ^ word >> 31);
    }
    return (char *)period;
}

/* -- the hash: four lanes take a word in turn, each by exclusive or, rotation and multiplication; so every byte and its place
 *    count, and how the bytes came in pieces does not */

struct hash { uint64_t lanes[LANES], bytes; };

static uint64_t rotated(uint64_t word, int bits) { return word << bits | word >> (64 - bits); }

static uint64_t mixed(uint64_t lane, uint64_t word) { return rotated(lane ^ word, 29) * 0x9e3779b97f4a7c15u + 1; }

/* Takes whole stripes. */
static void hash_stripes(struct hash *hash, const char *bytes, size_t count) {
    uint64_t words[LANES];
    for (size_t at = 0; at < count; at += STRIPE_BYTES) {
        memcpy(words, bytes + at, sizeof words);
        for (int i = 0; i < LANES; i++) hash->lanes[i] = mixed(hash->lanes[i], le64toh(words[i]));
    }
    hash->bytes += count;
}

/* Takes the last bytes, less than a stripe, and tells the hash of all. */
static uint64_t hash_end(struct hash *hash, const char *bytes, size_t count) {
    char last[STRIPE_BYTES] = {0};
    uint64_t result = hash->bytes + count;
    memcpy(last, bytes, count);
    hash_stripes(hash, last, sizeof last);
    for (int i = 0; i < LANES; i++) result = mixed(result, hash->lanes[i]);
    return result ^ result >> 32;
}

/* A hash over what comes in pieces: the buffer keeps what is no whole stripe yet at its beginning. */
static size_t hash_received(struct hash *hash, char *buffer, size_t held) {
    size_t whole = held / STRIPE_BYTES * STRIPE_BYTES;
    hash_stripes(hash, buffer, whole);
    memmove(buffer, buffer + whole, held - whole);
    return held - whole;
}

static void tell_hash(uint64_t seed, uint64_t bytes) {
    static char buffer[RECEIVE_BYTES];
    const char *period = make_period(seed);
    struct hash hash = {0};
    size_t held = 0;
    for (uint64_t done = 0; done < bytes;) {
        size_t at = done % PERIOD_BYTES, count = sizeof buffer - held;
        if (count > PERIOD_BYTES - at) count = PERIOD_BYTES - at;
        if (count > bytes - done) count = bytes - done;
        memcpy(buffer + held, period + at, count);
        done += count;
        held = hash_received(&hash, buffer, held + count);
    }
    printf("hash %016llx\n", (unsigned long long)hash_end(&hash, buffer, held));
}

/* -- the server: one thread, one period for all */

struct download { int fd; unsigned asked; uint8_t request[8]; uint64_t at, bytes; };

/* Reads the request; 1: it is whole, 0: not yet, -1: the client has left. */
static int read_request(struct download *d) {
    while (d->asked < sizeof d->request) {
        ssize_t got = UNINTERRUPTED(recv(d->fd, d->request + d->asked, sizeof d->request - d->asked, 0));
        if (got <= 0) return got < 0 && errno == EAGAIN ? 0 : -1;
        d->asked += got;
    }
    for (int i = 0; i < 8; i++) d->bytes = d->bytes << 8 | d->request[i];
    return 1;
}

/* Sends what the kernel takes; whether there is more to send. */
static int send_some(struct download *d, const char *period) {
    size_t at = d->at % PERIOD_BYTES, count = PERIOD_BYTES - at;
    if (count > d->bytes - d->at) count = d->bytes - d->at;
    ssize_t sent = count ? UNINTERRUPTED(send(d->fd, period + at, count, MSG_NOSIGNAL)) : 0;
    if (sent < 0) return errno == EAGAIN;
    d->at += sent;
    return d->at < d->bytes;
}

/* Whether the download goes on, after what happened to it. */
static int proceed(int ep, struct download *d, const char *period) {
    if (d->asked < sizeof d->request) {
        int whole = read_request(d);
        if (whole <= 0) return whole == 0;
        epoll_change(ep, d->fd, EPOLLOUT, (uintptr_t)d);
    }
    return send_some(d, period);
}

static void accept_all(int ep, int listener) {
    int fd;
    while ((fd = accept_next(listener)) >= 0) {
        struct download *d = allocated(1, sizeof *d);
        d->fd = fd;
        epoll_add(ep, fd, EPOLLIN, (uintptr_t)d);
    }
}

/* Asks for the control of congestion that is Linux's default, so that machines compare; what is not there stays unset. */
static void tell_congestion(int listener) {
    char name[16] = "cubic";
    socklen_t size = sizeof name;
    setsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, name, strlen(name));
    if (getsockopt(listener, IPPROTO_TCP, TCP_CONGESTION, name, &size)) die("TCP_CONGESTION");
    printf("congestion %.16s\n", name);
    fflush(stdout);
}

_Noreturn static void serve(uint64_t seed) {
    struct epoll_event events[64];
    const char *period = make_period(seed);
    all_descriptors();
    int listener = listen_and_tell(), ep = make_epoll();
    tell_congestion(listener);
    epoll_add(ep, listener, EPOLLIN, 0);
    for (;;) {
        int count = await_events(ep, events, 64, -1);
        for (int i = 0; i < count; i++) {
            struct download *d = events[i].data.ptr;
            if (!d) accept_all(ep, listener);
            else if (!proceed(ep, d, period)) {
                close(d->fd);
                free(d);
            }
        }
    }
}

/* -- the client */

static struct sockaddr_in address_of(const char *host, const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1) {
        fprintf(stderr, "%s is no IPv4 address\n", host);
        exit(2);
    }
    return address;
}

static void send_all(int fd, const void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t sent = UNINTERRUPTED(send(fd, (const char *)bytes + done, count - done, MSG_NOSIGNAL));
        if (sent < 0) die("send");
        done += sent;
    }
}

/* Receives exactly so many bytes: behind them comes what belongs to the file. */
static void recv_exactly(int fd, void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t got = UNINTERRUPTED(recv(fd, (char *)bytes + done, count - done, 0));
        if (got < 0) die("recv from the proxy");
        if (got == 0) give_up("the proxy ended the connection before it answered");
        done += got;
    }
}

_Noreturn static void refused(const char *version, int code) {
    fprintf(stderr, "the proxy refused, %s reply %d\n", version, code);
    exit(1);
}

static void ask_socks4(int fd, struct sockaddr_in target) {
    uint8_t request[9] = {4, 1}, reply[8];
    memcpy(request + 2, &target.sin_port, 2);
    memcpy(request + 4, &target.sin_addr, 4);
    send_all(fd, request, sizeof request);
    recv_exactly(fd, reply, sizeof reply);
    if (reply[0] != 0 || reply[1] != 90) refused("SOCKS4", reply[1]);
}

static void ask_socks5(int fd, struct sockaddr_in target) {
    uint8_t request[10] = {5, 1, 0, 1}, reply[4], method[2], length, rest[257];
    send_all(fd, "\5\1\0", 3);
    recv_exactly(fd, method, sizeof method);
    if (method[0] != 5 || method[1] != 0) give_up("the proxy wants a login, or speaks no SOCKS5");
    memcpy(request + 4, &target.sin_addr, 4);
    memcpy(request + 8, &target.sin_port, 2);
    send_all(fd, request, sizeof request);
    recv_exactly(fd, reply, sizeof reply);
    if (reply[0] != 5 || reply[1] != 0) refused("SOCKS5", reply[1]);
    switch (reply[3]) { /* what follows: the address that the proxy uses, and a port of two bytes */
    case 1: length = 4; break;
    case 4: length = 16; break;
    case 3: recv_exactly(fd, &length, 1); break;
    default: give_up("the proxy's reply holds an address of an unknown kind");
    }
    recv_exactly(fd, rest, length + 2u);
}

/* In the order of VERSION's digits; NULL: no such version. Version 0 asks nobody. */
static void (*const ASK[])(int, struct sockaddr_in) = {[4] = ask_socks4, [5] = ask_socks5};

static void fetch(int version, struct sockaddr_in proxy, struct sockaddr_in target, uint64_t bytes) {
    static char buffer[RECEIVE_BYTES];
    struct hash hash = {0};
    uint64_t received = 0;
    uint8_t count[8];
    size_t held = 0;
    double first = 0;
    for (int i = 0; i < 8; i++) count[i] = bytes >> (56 - 8 * i);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    set_nodelay(fd);
    double start = seconds_now();
    if (connect(fd, version ? (void *)&proxy : (void *)&target, sizeof target)) die("connect");
    if (version) ASK[version](fd, target);
    send_all(fd, count, sizeof count);
    for (;;) {
        ssize_t got = UNINTERRUPTED(recv(fd, buffer + held, sizeof buffer - held, 0));
        if (got < 0) die("recv");
        if (!received) first = seconds_now() - start;
        if (!got) break;
        received += got;
        held = hash_received(&hash, buffer, held + got);
    }
    double seconds = seconds_now() - start;
    if (received != bytes) {
        fprintf(stderr, "%llu bytes came instead of %llu\n", (unsigned long long)received, (unsigned long long)bytes);
        exit(1);
    }
    printf("bytes %llu seconds %.6f connect %.6f hash %016llx\n", (unsigned long long)received, seconds, first,
           (unsigned long long)hash_end(&hash, buffer, held));
}

int main(int argc, char **argv) {
    if (argc == 3 && !strcmp(argv[1], "serve")) serve(strtoull(argv[2], NULL, 0));
    if (argc == 4 && !strcmp(argv[1], "hash")) {
        tell_hash(strtoull(argv[2], NULL, 0), strtoull(argv[3], NULL, 0));
        return 0;
    }
    int version = argc == 8 && !strcmp(argv[1], "fetch") ? atoi(argv[2]) : -1;
    if (version != 0 && version != 4 && version != 5) {
        fprintf(stderr, "usage: files serve SEED | fetch 0|4|5 PROXY PROXY_PORT TARGET TARGET_PORT BYTES | hash SEED BYTES\n");
        return 2;
    }
    struct sockaddr_in target = address_of(argv[5], argv[6]), proxy = version ? address_of(argv[3], argv[4]) : target;
    fetch(version, proxy, target, strtoull(argv[7], NULL, 0));
    return 0;
}
