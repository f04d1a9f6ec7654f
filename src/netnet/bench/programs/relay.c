/* The yardsticks for relaying, both ways: relay splice|copy TARGET_PORT
 * splice: through a 1 MiB pipe for each way; copy: a 256 KiB buffer for each. They are made when the first byte comes.
 * One thread, epoll, edge-triggered: a way reads until it would block, or until what it has read cannot be written. One that
 * never would gives way to the others now and then. The end of one way is passed on, the other goes on; an error ends both. */
#include "common.h"

enum {
    PIPE_BYTES = 1 << 20,
    COPY_BYTES = 262144,
    TURN_READS = 32, /* a turn is over after so many reads, or so many bytes */
    TURN_BYTES = 4 << 20,
};

/* One way: what was read and is not written yet, in a pipe (from in to out) or in a buffer. */
struct flow { int ready, ended, in, out; size_t held, at; char *buffer; };

/* One end of a link: its socket, and the way of what comes from it. */
struct end { int fd, queued; struct end *next; struct link *link; struct flow flow; };

struct link { struct end ends[2]; struct link *next; int closed; };

static int ep, splicing, target_port;
static struct link *dead; /* closed, but an event or the queue may still name them */
static struct end *queue; /* those whose turn is over, although there may be more to read */

static void make_ready(struct flow *f) {
    if (splicing) {
        int ends[2];
        if (pipe2(ends, O_NONBLOCK | O_CLOEXEC)) die("pipe2");
        fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES);
        f->in = ends[0];
        f->out = ends[1];
    } else {
        f->buffer = allocated(COPY_BYTES, 1);
    }
    f->ready = 1;
}

static ssize_t read_some(struct flow *f, int source) {
    return UNINTERRUPTED(splicing ? splice(source, NULL, f->out, NULL, PIPE_BYTES, SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
                                  : recv(source, f->buffer, COPY_BYTES, 0));
}

static ssize_t write_some(struct flow *f, int sink) {
    return UNINTERRUPTED(splicing ? splice(f->in, NULL, sink, NULL, f->held, SPLICE_F_NONBLOCK | SPLICE_F_MOVE)
                                  : send(sink, f->buffer + f->at, f->held, MSG_NOSIGNAL));
}

static void enqueue(struct end *e) {
    if (e->queued) return;
    e->queued = 1;
    e->next = queue;
    queue = e;
}

/* Moves what can be moved in a turn from one end to the other; -1 when one of them is lost. */
static int move(struct end *source, struct end *sink) {
    struct flow *f = &source->flow;
    size_t moved = 0;
    if (f->ended) return 0;
    if (!f->ready) make_ready(f);
    for (int reads = 0; reads < TURN_READS && moved < TURN_BYTES; reads++) {
        while (f->held) {
            ssize_t sent = write_some(f, sink->fd);
            if (sent < 0) return errno == EAGAIN ? 0 : -1;
            f->held -= sent;
            f->at += sent;
        }
        ssize_t got = read_some(f, source->fd);
        if (got < 0) return errno == EAGAIN ? 0 : -1;
        if (got == 0) {
            f->ended = 1;
            return shutdown(sink->fd, SHUT_WR);
        }
        f->held = got;
        f->at = 0;
        moved += got;
    }
    enqueue(source);
    return 0;
}

static void finish(struct link *l) {
    for (int i = 0; i < 2; i++) {
        struct flow *f = &l->ends[i].flow;
        close(l->ends[i].fd);
        if (f->ready && splicing) { close(f->in); close(f->out); }
        free(f->buffer);
    }
    l->closed = 1;
    l->next = dead;
    dead = l;
}

static void serve(struct end *here, uint32_t happened) {
    struct link *l = here->link;
    struct end *there = &l->ends[here == l->ends];
    if (l->closed) return;
    int lost = happened & EPOLLERR && here->flow.ended;
    if (happened & (EPOLLIN | EPOLLERR | EPOLLHUP)) lost |= move(here, there);
    if (happened & EPOLLOUT && there->flow.held && !lost) lost |= move(there, here);
    if (lost || (here->flow.ended && there->flow.ended)) finish(l);
}

/* Gives those a turn who were interrupted in theirs. */
static void serve_queue(void) {
    struct end *first = queue, *next;
    queue = NULL;
    for (struct end *e = first; e; e = next) {
        next = e->next;
        e->queued = 0;
        serve(e, EPOLLIN);
    }
}

/* Frees what is closed and named by nothing any more. */
static void bury(void) {
    struct link **at = &dead;
    for (struct link *l; (l = *at);) {
        if (l->ends[0].queued || l->ends[1].queued) { at = &l->next; continue; }
        *at = l->next;
        free(l);
    }
}

static int connected(int port) {
    struct sockaddr_in address = loopback(1, port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("socket");
    if (connect(fd, (void *)&address, sizeof address)) die("connect to the target");
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void take(int listener) {
    for (int fd; (fd = accept_next(listener)) >= 0;) {
        struct link *l = allocated(1, sizeof *l);
        l->ends[0].fd = fd;
        l->ends[1].fd = connected(target_port);
        for (int i = 0; i < 2; i++) {
            l->ends[i].link = l;
            epoll_add(ep, l->ends[i].fd, EPOLLIN | EPOLLOUT | EPOLLET, (uintptr_t)&l->ends[i]);
        }
    }
}

int main(int argc, char **argv) {
    struct epoll_event events[64];
    if (argc != 3 || (strcmp(argv[1], "splice") && strcmp(argv[1], "copy"))) {
        fprintf(stderr, "usage: relay splice|copy TARGET_PORT\n");
        return 2;
    }
    all_descriptors();
    ignore_broken_pipes();
    splicing = !strcmp(argv[1], "splice");
    target_port = atoi(argv[2]);
    int listener = listen_and_tell();
    ep = make_epoll();
    epoll_add(ep, listener, EPOLLIN, 0);
    for (;;) {
        int count = await_events(ep, events, 64, queue ? 0 : -1);
        for (int i = 0; i < count; i++)
            if (events[i].data.ptr) serve(events[i].data.ptr, events[i].events);
            else take(listener);
        serve_queue();
        bury();
    }
}
