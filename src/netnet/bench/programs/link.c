/* A link with a round-trip time and a bandwidth, between two network namespaces that it makes. link DELAY_MS MBIT_S QUEUE_KB
 *
 * "near" and "far" hold a loopback and a TUN device each (MTU 1500), and nothing of the host's network. IPv4 packets go from
 * one device to the other through this process: in each direction a queue of QUEUE_KB (1000 bytes each) that drops what does
 * not fit, a token bucket of MBIT_S (of IP packets, their headers counted), then DELAY_MS / 2. So TCP meets a round trip, a
 * full queue and losses as it does on a real path, and needs no netem in the kernel. A packet is never early, and up to
 * 0.25 ms late, so that a few come together. Not a model of a shared path: there is no other traffic, no jitter, and no loss
 * but that of the queue.
 *
 * Prints "near PATH far PATH user PATH|- near_address A far_address B": the paths are for setns(2) and name descriptors of
 * this process; "user" is the user namespace that the two belong to where root's rights were missing, else "-". Runs until
 * standard input ends. What goes wrong at the start is a line on standard error and status 1. */
#include "common.h"
#include <linux/if_tun.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/timerfd.h>

#define NEAR_ADDRESS "10.97.0.1"
#define FAR_ADDRESS "10.97.0.2"
#define NETMASK "255.255.255.252"
#define MTU 1500
#define DEVICE_QUEUE_PACKETS 20000 /* the queue that drops is ours, not the device's */
#define BURST_BYTES 32768
#define READS_AT_ONCE 64
#define STEP_NS 250000 /* what is due within one step is delivered together */
#define NS_PER_MS 1e6

struct packet { struct packet *next; int64_t due_ns; size_t length; char bytes[]; };

/* One way over the link. free_ns is when the last packet has left the bucket; in the past: tokens are saved up. The packets
 * are in the order of their due times: those that wait for tokens behind those that are on their way. */
struct direction { int from, to; int64_t free_ns; struct packet *first, **last; };

/* What each namespace's TCP is set to, so that machines compare: Linux's own buffers, and nothing learned from the downloads
 * before. Where it may not be written, the kernel's own stays. */
static const struct { const char *path, *value; } SETTINGS[] = {
    {"/proc/sys/net/ipv4/tcp_no_metrics_save", "1"},
    {"/proc/sys/net/ipv4/tcp_rmem", "4096 131072 6291456"},
    {"/proc/sys/net/ipv4/tcp_wmem", "4096 16384 4194304"},
};

static double ns_per_byte;
static int64_t delay_ns, burst_ns, queue_ns;

static int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static int write_file(const char *path, const char *text) {
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t wrote = fd < 0 ? -1 : write(fd, text, strlen(text));
    if (fd >= 0) close(fd);
    return wrote < 0 ? -1 : 0;
}

/* Leaves the host's network, with root's rights or, without them, with those of a new user namespace; says whether so. */
static int leave_network(void) {
    char line[64];
    unsigned uid = geteuid(), gid = getegid();
    if (!unshare(CLONE_NEWNET)) return 0;
    if (unshare(CLONE_NEWUSER | CLONE_NEWNET)) die("no network namespace can be made");
    snprintf(line, sizeof line, "0 %u 1", uid);
    if (write_file("/proc/self/uid_map", line)) die("/proc/self/uid_map");
    if (write_file("/proc/self/setgroups", "deny") && errno != ENOENT) die("/proc/self/setgroups");
    snprintf(line, sizeof line, "0 %u 1", gid);
    if (write_file("/proc/self/gid_map", line)) die("/proc/self/gid_map");
    return 1;
}

static int open_namespace(const char *kind) {
    char path[64];
    snprintf(path, sizeof path, "/proc/self/ns/%s", kind);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) die(path);
    return fd;
}

static void configure(int fd, const char *device, unsigned long request, struct ifreq *value, const char *what) {
    snprintf(value->ifr_name, IFNAMSIZ, "%s", device);
    if (ioctl(fd, request, value)) die(what);
}

static void set_address(int fd, const char *device, unsigned long request, const char *address) {
    struct ifreq value = {0};
    struct sockaddr_in *in = (void *)&value.ifr_addr;
    in->sin_family = AF_INET;
    inet_pton(AF_INET, address, &in->sin_addr);
    configure(fd, device, request, &value, address);
}

/* As many packets as wait in the device until they are read. By netlink, since the ioctl(2) for it wants the host's root. */
static void set_device_queue(const char *device, uint32_t packets) {
    struct { struct nlmsghdr head; struct ifinfomsg link; struct rtattr attribute; uint32_t packets; } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_NEWLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
        .link = {.ifi_index = if_nametoindex(device)},
        .attribute = {.rta_len = RTA_LENGTH(sizeof packets), .rta_type = IFLA_TXQLEN},
        .packets = packets,
    };
    struct { struct nlmsghdr head; struct nlmsgerr error; char rest[1024]; } answer;
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &request, sizeof request, 0) < 0 || recv(fd, &answer, sizeof answer, 0) < 0) die("netlink");
    errno = -answer.error.error;
    if (errno) die("length of the device's queue");
    close(fd);
}

/* Sets up the network of this process, which has nothing yet; returns the descriptor of its TUN device. */
static int furnish(const char *address) {
    struct ifreq tun = {.ifr_flags = IFF_TUN | IFF_NO_PI}, up = {.ifr_flags = IFF_UP};
    struct ifreq mtu = {.ifr_mtu = MTU};
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC), any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) die("/dev/net/tun");
    configure(fd, "link", TUNSETIFF, &tun, "no TUN device can be made");
    configure(any, "lo", SIOCSIFFLAGS, &up, "lo up");
    configure(any, "link", SIOCSIFMTU, &mtu, "MTU");
    set_device_queue("link", DEVICE_QUEUE_PACKETS);
    set_address(any, "link", SIOCSIFADDR, address);
    set_address(any, "link", SIOCSIFNETMASK, NETMASK);
    configure(any, "link", SIOCSIFFLAGS, &up, "TUN device up");
    close(any);
    for (size_t i = 0; i < sizeof SETTINGS / sizeof *SETTINGS; i++) write_file(SETTINGS[i].path, SETTINGS[i].value);
    return fd;
}

static int64_t on_a_step(int64_t time_ns) { return (time_ns + STEP_NS - 1) / STEP_NS * STEP_NS; }

/* A packet has come in: it is put in line, or dropped where the queue is full. */
static void take(struct direction *d, const char *bytes, size_t length, int64_t now) {
    int64_t cost_ns = length * ns_per_byte;
    if (d->free_ns < now - burst_ns) d->free_ns = now - burst_ns;
    if (d->free_ns + cost_ns > now + queue_ns) return;
    struct packet *packet = allocated(1, sizeof *packet + length);
    d->free_ns += cost_ns;
    packet->due_ns = on_a_step((d->free_ns > now ? d->free_ns : now) + delay_ns);
    packet->length = length;
    memcpy(packet->bytes, bytes, length);
    *d->last = packet;
    d->last = &packet->next;
}

static void receive(struct direction *d) {
    char bytes[65536];
    int64_t now = now_ns();
    for (int i = 0; i < READS_AT_ONCE; i++) {
        ssize_t got = read(d->from, bytes, sizeof bytes);
        if (got <= 0) return;
        if ((unsigned char)bytes[0] >> 4 == 4) take(d, bytes, got, now);
    }
}

/* Hands over what is due; one that the other side does not take is lost. */
static void deliver(struct direction *d, int64_t now) {
    struct packet *packet;
    while ((packet = d->first) && packet->due_ns <= now) {
        if (write(d->to, packet->bytes, packet->length) < 0 && errno == EBADFD) die("TUN device");
        if (!(d->first = packet->next)) d->last = &d->first;
        free(packet);
    }
}

/* Sets the timer to the first packet that is due. */
static void wake_for(int timer, const struct direction *ways) {
    static int64_t set_ns;
    int64_t due_ns = INT64_MAX;
    for (int i = 0; i < 2; i++)
        if (ways[i].first && ways[i].first->due_ns < due_ns) due_ns = ways[i].first->due_ns;
    if (due_ns == INT64_MAX || due_ns == set_ns) return;
    set_ns = due_ns;
    struct itimerspec at = {.it_value = {.tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000}};
    if (timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL)) die("timerfd_settime");
}

static void carry(int near_tun, int far_tun) {
    struct direction ways[2] = {{.from = near_tun, .to = far_tun}, {.from = far_tun, .to = near_tun}};
    struct epoll_event events[4];
    char ignored[256];
    int ep = make_epoll(), timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    if (timer < 0) die("timerfd_create");
    for (int i = 0; i < 2; i++) {
        ways[i].last = &ways[i].first;
        epoll_add(ep, ways[i].from, EPOLLIN, (uintptr_t)&ways[i]);
    }
    epoll_add(ep, timer, EPOLLIN | EPOLLET, (uintptr_t)&timer); /* edge-triggered: it need not be read */
    if (epoll_ctl(ep, EPOLL_CTL_ADD, STDIN_FILENO, &(struct epoll_event){.events = EPOLLIN}))
        die("standard input has to be a pipe, a socket or a terminal");
    for (;;) {
        int count = await_events(ep, events, 4, -1);
        for (int i = 0; i < count; i++) {
            if (!events[i].data.ptr) {
                if (read(STDIN_FILENO, ignored, sizeof ignored) <= 0) return;
            } else if (events[i].data.ptr != &timer) {
                receive(events[i].data.ptr);
            }
        }
        int64_t now = now_ns();
        for (int i = 0; i < 2; i++) deliver(&ways[i], now);
        wake_for(timer, ways);
    }
}

int main(int argc, char **argv) {
    char user[64] = "-";
    if (argc != 4 || atof(argv[1]) < 0 || atof(argv[2]) <= 0 || atof(argv[3]) < 0) {
        fprintf(stderr, "usage: link DELAY_MS MBIT_S QUEUE_KB: a delay and a queue of at least 0, a bandwidth above 0\n");
        return 2;
    }
    delay_ns = atof(argv[1]) * NS_PER_MS / 2;
    ns_per_byte = 8e3 / atof(argv[2]);
    queue_ns = atof(argv[3]) * 1000 * ns_per_byte;
    burst_ns = BURST_BYTES * ns_per_byte;
    if (leave_network()) snprintf(user, sizeof user, "/proc/%d/fd/%d", getpid(), open_namespace("user"));
    int near_tun = furnish(NEAR_ADDRESS), near_network = open_namespace("net");
    if (unshare(CLONE_NEWNET)) die("no second network namespace can be made");
    int far_tun = furnish(FAR_ADDRESS), far_network = open_namespace("net");
    setpriority(PRIO_PROCESS, 0, -20); /* a real link waits for no processor; without the right for it: as it is */
    printf("near /proc/%d/fd/%d far /proc/%d/fd/%d user %s near_address %s far_address %s\n", getpid(), near_network,
           getpid(), far_network, user, NEAR_ADDRESS, FAR_ADDRESS);
    fflush(stdout);
    carry(near_tun, far_tun);
    return 0;
}
