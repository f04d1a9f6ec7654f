/* The yardstick "a plain proxy in C": SOCKS4 CONNECT, a process for each connection, poll(2), and one buffer of 4096 bytes
 * through which what can be read is copied with blocking calls, as proxies of this kind are commonly written.
 *
 * Half-close is passed on and ended processes are reaped; there are no rules, limits, time limits, names (SOCKS4a) or log.
 * While one side does not take its bytes, the other way stands still. Prints "port N". */
#include "common.h"
#include <poll.h>
#include <sys/wait.h>

#define BUFFER_BYTES 4096
#define USER_BYTES_MAX 255
#define GRANTED 90
#define REFUSED 91

struct request { uint8_t version, command; uint16_t port; uint32_t address; } __attribute__((packed));

static void reap(int number) {
    int kept = errno;
    (void)number;
    while (waitpid(-1, NULL, WNOHANG) > 0) {}
    errno = kept;
}

/* Reads exactly so many bytes; whether they came. */
static int read_all(int fd, void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t got = UNINTERRUPTED(read(fd, (char *)bytes + done, count - done));
        if (got <= 0) return 0;
        done += got;
    }
    return 1;
}

static int write_all(int fd, const void *bytes, size_t count) {
    for (size_t done = 0; done < count;) {
        ssize_t sent = UNINTERRUPTED(write(fd, (const char *)bytes + done, count - done));
        if (sent < 0) return 0;
        done += sent;
    }
    return 1;
}

/* Reads the request with its user name, which ends with a zero byte; whether it is a CONNECT of SOCKS4. */
static int read_request(int client, struct request *request) {
    char byte;
    if (!read_all(client, request, sizeof *request)) return 0;
    for (int i = 0; i <= USER_BYTES_MAX; i++) {
        if (!read_all(client, &byte, 1)) return 0;
        if (!byte) return request->version == 4 && request->command == 1;
    }
    return 0;
}

static int connected(const struct request *request) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = request->port, .sin_addr.s_addr = request->address};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || !connect(fd, (void *)&address, sizeof address)) return fd;
    close(fd);
    return -1;
}

/* Copies both ways until both have ended, or one has failed. */
static void relay(int client, int target) {
    static char buffer[BUFFER_BYTES];
    struct pollfd ends[2] = {{.fd = client, .events = POLLIN}, {.fd = target, .events = POLLIN}};
    int sides[2] = {client, target};
    for (int open = 2; open;) {
        if (UNINTERRUPTED(poll(ends, 2, -1)) < 0) return;
        for (int i = 0; i < 2; i++) {
            if (!ends[i].revents) continue;
            ssize_t got = UNINTERRUPTED(read(sides[i], buffer, sizeof buffer));
            if (got < 0 || !write_all(sides[!i], buffer, got)) return;
            if (got) continue;
            shutdown(sides[!i], SHUT_WR);
            ends[i].fd = -1; /* poll(2) passes over it */
            ends[i].revents = 0;
            open--;
        }
    }
}

static void serve(int client) {
    struct request request;
    if (!read_request(client, &request)) return;
    int target = connected(&request);
    struct request reply = {.version = 0, .command = target < 0 ? REFUSED : GRANTED};
    if (write_all(client, &reply, sizeof reply) && target >= 0) relay(client, target);
}

int main(void) {
    struct sigaction on_child = {.sa_handler = reap, .sa_flags = SA_RESTART | SA_NOCLDSTOP};
    ignore_broken_pipes();
    all_descriptors();
    if (sigaction(SIGCHLD, &on_child, NULL)) die("sigaction");
    int listener = listen_and_tell();
    if (fcntl(listener, F_SETFL, 0)) die("fcntl"); /* blocking */
    for (;;) {
        int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (client < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            die("accept");
        }
        pid_t child = fork();
        if (!child) {
            close(listener);
            serve(client);
            _exit(0);
        }
        if (child < 0) perror("fork"); /* this client is not served; the next may be */
        close(client);
    }
}
