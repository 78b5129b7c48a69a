/*
 * New TCP connections per second, and round trips on open ones.
 *
 *   tcp_load serve PORT                          takes connections, answers each byte with a byte, until standard input
 *                                                ends
 *   tcp_load connect ADDRESS PORT SECONDS WIDTH  connect from a random one of the sources, one byte there and back,
 *                                                reset; WIDTH at a time; prints connections per second
 *   tcp_load rr ADDRESS PORT SECONDS             a connection from each source, then one byte there and back on a
 *                                                random one; prints the median and the 99th percentile in microseconds
 */
#define _GNU_SOURCE
#include "load.h"
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>

enum { EVENTS = 256, MOST_TRIPS = 1000000 };

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif

static void watch(int epoll, int fd, uint32_t what, int change)
{
    struct epoll_event event = {.events = what, .data.fd = fd};

    if (epoll_ctl(epoll, change ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
}

static void serve(const char *port)
{
    struct sockaddr_in here = peer("0.0.0.0", port);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0), one = 1;
    struct epoll_event events[EVENTS];

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here) || listen(fd, 4096))
        die("listen");
    watch(epoll, fd, EPOLLIN, 0);
    watch(epoll, STDIN_FILENO, EPOLLIN, 0);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(epoll, events, EVENTS, -1);
        for (int i = 0; i < ready; i++) {
            char bytes[64];
            int from = events[i].data.fd, taken;
            if (from == STDIN_FILENO)
                return;
            if (from == fd) {
                while ((taken = accept4(fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
                    setsockopt(taken, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
                    watch(epoll, taken, EPOLLIN, 0);
                }
                continue;
            }
            ssize_t got = read(from, bytes, sizeof bytes);
            if (got <= 0 || write(from, bytes, (size_t)got) < 0)
                close(from);
        }
    }
}

static int start(const struct sockaddr_in *from, const struct sockaddr_in *there, int flags)
{
    struct linger reset = {.l_onoff = 1};
    int fd = socket(AF_INET, SOCK_STREAM | flags, 0), one = 1;

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
    if (bind(fd, (const struct sockaddr *)from, sizeof *from))
        die("bind");
    if (connect(fd, (const struct sockaddr *)there, sizeof *there) && errno != EINPROGRESS)
        die("connect");
    return fd;
}

static void connect_all(const char *address, const char *port, double seconds, int width)
{
    struct sockaddr_in there = peer(address, port);
    int epoll = epoll_create1(0), count;
    const struct sockaddr_in *from = sources(&count);
    struct epoll_event events[EVENTS];
    uint64_t done = 0, failed = 0;
    double begin = now(), end = begin + seconds;

    for (int i = 0; i < width; i++)
        watch(epoll, start(from + any((uint32_t)count), &there, SOCK_NONBLOCK), EPOLLOUT, 0);
    while (now() < end) {
        int ready = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            char byte = 'x';
            int fd = events[i].data.fd;
            if (events[i].events & (EPOLLERR | EPOLLHUP)) {
                failed++;
            } else if (events[i].events & EPOLLOUT) {
                if (write(fd, &byte, 1) == 1) {
                    watch(epoll, fd, EPOLLIN, 1);
                    continue;
                }
                failed++;
            } else if (read(fd, &byte, 1) == 1) {
                done++;
            } else {
                failed++;
            }
            close(fd);
            watch(epoll, start(from + any((uint32_t)count), &there, SOCK_NONBLOCK), EPOLLOUT, 0);
        }
    }
    printf("%.0f\n", (double)done / (now() - begin));
    if (failed) {
        fprintf(stderr, "tcp_load: %lu connections failed\n", (unsigned long)failed);
        exit(1);
    }
}

static int longer(const void *one, const void *other)
{
    float a = *(const float *)one, b = *(const float *)other;

    return (a > b) - (a < b);
}

static void round_trips(const char *address, const char *port, double seconds)
{
    static int open[MOST_SOURCES];
    struct sockaddr_in there = peer(address, port);
    int connections;
    const struct sockaddr_in *from = sources(&connections);
    float *trips = malloc(MOST_TRIPS * sizeof *trips);
    size_t count = 0;
    double end;

    if (!trips)
        die("malloc");
    for (int i = 0; i < connections; i++)
        open[i] = start(from + i, &there, 0);
    end = now() + seconds;
    while (now() < end && count < MOST_TRIPS) {
        char byte = 'x';
        int fd = open[any((uint32_t)connections)];
        double begin = now();
        if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
            die("round trip");
        trips[count++] = (float)((now() - begin) * 1e6);
    }
    qsort(trips, count, sizeof *trips, longer);
    printf("%.2f %.2f\n", (double)trips[count / 2], (double)trips[count * 99 / 100]);
}

int main(int argc, char **argv)
{
    struct rlimit files = {.rlim_cur = MOST_SOURCES + 1024, .rlim_max = MOST_SOURCES + 1024};

    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 3 && !strcmp(argv[1], "serve"))
        serve(argv[2]);
    else if (argc == 6 && !strcmp(argv[1], "connect") && atoi(argv[5]) > 0)
        connect_all(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
    else if (argc == 5 && !strcmp(argv[1], "rr"))
        round_trips(argv[2], argv[3], atof(argv[4]));
    else {
        fprintf(stderr, "usage: tcp_load serve PORT | connect ADDRESS PORT SECONDS WIDTH | rr ADDRESS PORT SECONDS\n");
        return 2;
    }
    return 0;
}
