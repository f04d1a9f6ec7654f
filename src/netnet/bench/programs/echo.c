/* The yardstick for echo: one thread, epoll, level-triggered. What has come is sent back at once; only what does not fit
 * the send buffer is kept, and then nothing more is read of that connection until it has gone. So a small round trip is
 * one recv and one send. */
#include "common.h"

struct connection { int fd; char *kept; size_t at, size; };

static int ep;
static char buffer[65536];

static void end(struct connection *c) {
    close(c->fd);
    free(c->kept);
    free(c);
}

/* How much of this is sent, without waiting; -1 when the connection is gone. */
static ssize_t sent_of(int fd, const char *data, size_t size) {
    ssize_t sent = UNINTERRUPTED(send(fd, data, size, MSG_NOSIGNAL));
    return sent < 0 && errno == EAGAIN ? 0 : sent;
}

static void keep(struct connection *c, const char *data, size_t size) {
    c->kept = allocated(size, 1);
    c->at = 0;
    c->size = size;
    memcpy(c->kept, data, size);
    epoll_change(ep, c->fd, EPOLLOUT, (uintptr_t)c);
}

static void send_kept(struct connection *c) {
    ssize_t sent = sent_of(c->fd, c->kept + c->at, c->size - c->at);
    if (sent < 0) { end(c); return; }
    c->at += sent;
    if (c->at < c->size) return;
    free(c->kept);
    c->kept = NULL;
    epoll_change(ep, c->fd, EPOLLIN, (uintptr_t)c);
}

static void echo(struct connection *c) {
    ssize_t got = UNINTERRUPTED(recv(c->fd, buffer, sizeof buffer, 0)), sent;
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0 || (sent = sent_of(c->fd, buffer, got)) < 0) { end(c); return; }
    if (sent < got) keep(c, buffer + sent, got - sent);
}

static void take(int listener) {
    for (int fd; (fd = accept_next(listener)) >= 0;) {
        struct connection *c = allocated(1, sizeof *c);
        c->fd = fd;
        set_nodelay(fd);
        epoll_add(ep, fd, EPOLLIN, (uintptr_t)c);
    }
}

int main(void) {
    struct epoll_event events[512];
    all_descriptors();
    ignore_broken_pipes();
    int listener = listen_and_tell();
    ep = make_epoll();
    epoll_add(ep, listener, EPOLLIN, 0);
    for (;;) {
        int count = await_events(ep, events, 512, -1);
        for (int i = 0; i < count; i++) {
            struct connection *c = events[i].data.ptr;
            if (!c) take(listener);
            else if (c->kept) send_kept(c);
            else echo(c);
        }
    }
}
