/* The yardsticks for bulk relaying, one way: target → client. relay splice|copy TARGET_PORT
 * splice: through a 1 MiB pipe per connection; copy: a 256 KiB buffer. One thread, epoll. Reads until would-block. */
#include "common.h"
#include <signal.h>

#define PIPE_BYTES (1 << 20)

struct flow { int source, sink, in, out; size_t held, at; char *buffer; };

static size_t copy_bytes = 262144;

/* Moves what can be moved; 0 when the source has ended or the sink failed. */
static int move(struct flow *f, int splicing) {
    for (;;) {
        while (f->held) {
            ssize_t sent = splicing ? splice(f->in, NULL, f->sink, NULL, f->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
                                    : send(f->sink, f->buffer + f->at, f->held, MSG_NOSIGNAL);
            if (sent < 0) return errno == EAGAIN;
            f->held -= sent;
            f->at += sent;
        }
        ssize_t got = splicing ? splice(f->source, NULL, f->out, NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
                               : recv(f->source, f->buffer, copy_bytes, 0);
        if (got < 0) return errno == EAGAIN;
        if (got == 0) return 0;
        f->held = got;
        f->at = 0;
    }
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    int splicing = argv[1][0] == 's', target = atoi(argv[2]), peer;
    struct epoll_event events[64];
    signal(SIGPIPE, SIG_IGN); /* splice(2) has no flag for it; a client that has left ends its flow, not the relay */
    all_descriptors();
    int listener = listen_and_tell(), ep = epoll_create1(0);
    epoll_add(ep, listener, EPOLLIN, 0);
    for (;;) {
        int count = epoll_wait(ep, events, 64, -1);
        for (int i = 0; i < count; i++) {
            struct flow *f = events[i].data.ptr;
            if (!f) {
                while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    struct sockaddr_in address = loopback(1, target);
                    int pipes[2], source = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                    if (connect(source, (void *)&address, sizeof address)) die("connect");
                    fcntl(source, F_SETFL, O_NONBLOCK);
                    f = calloc(1, sizeof *f);
                    if (splicing) {
                        if (pipe2(pipes, O_NONBLOCK | O_CLOEXEC)) die("pipe2");
                        fcntl(pipes[1], F_SETPIPE_SZ, PIPE_BYTES);
                        f->in = pipes[0];
                        f->out = pipes[1];
                    } else {
                        f->buffer = malloc(copy_bytes);
                    }
                    f->source = source;
                    f->sink = peer;
                    epoll_add(ep, source, EPOLLIN | EPOLLET, (uintptr_t)f);
                    epoll_add(ep, peer, EPOLLOUT | EPOLLET, (uintptr_t)f);
                }
                continue;
            }
            if (f->source >= 0 && !move(f, splicing)) {
                close(f->source);
                close(f->sink);
                if (splicing) { close(f->in); close(f->out); } else free(f->buffer);
                f->source = -1; /* the struct stays: an event of this batch may still name it */
            }
        }
    }
}
