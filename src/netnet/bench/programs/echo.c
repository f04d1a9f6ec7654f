/* The yardstick for echo: one thread, epoll, read and write at once. What does not fit the send buffer is waited for. */
#include "common.h"

int main(void) {
    static char buffer[65536];
    struct epoll_event events[512];
    all_descriptors();
    int listener = listen_and_tell(), ep = epoll_create1(0);
    epoll_add(ep, listener, EPOLLIN, listener);
    for (;;) {
        int count = epoll_wait(ep, events, 512, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.u64;
            if (fd == listener) {
                int peer;
                while ((peer = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
                    set_nodelay(peer);
                    epoll_add(ep, peer, EPOLLIN, peer);
                }
                continue;
            }
            ssize_t got = recv(fd, buffer, sizeof buffer, 0);
            if (got < 0 && errno == EAGAIN) continue;
            if (got <= 0) { close(fd); continue; }
            for (ssize_t done = 0; done < got;) {
                ssize_t sent = send(fd, buffer + done, got - done, MSG_NOSIGNAL);
                if (sent < 0 && errno == EAGAIN) { usleep(50); continue; }
                if (sent < 0) { close(fd); break; }
                done += sent;
            }
        }
    }
}
