/*
 * New TCP connections per second, and round trips on one connection.
 *
 *   tcp_load serve PORT SECONDS                     takes connections, answers each byte with a byte
 *   tcp_load connect ADDRESS PORT SECONDS WIDTH     connect, one byte there and back, reset; WIDTH at a time; prints
 *                                                   connections per second
 *   tcp_load rr ADDRESS PORT SECONDS                one byte there and back; prints the median and the 99th percentile
 *                                                   in microseconds
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 256, MOST_TRIPS = 4000000 };

static double now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static struct addrinfo *resolve(const char *address, const char *port)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;

    if (!address)
        hints.ai_flags |= AI_PASSIVE, hints.ai_family = AF_INET6;
    if (getaddrinfo(address, port, &hints, &found))
        die("getaddrinfo");
    return found;
}

static void watch(int epoll, int fd, uint32_t what, int change)
{
    struct epoll_event event = {.events = what, .data.fd = fd};

    if (epoll_ctl(epoll, change ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, fd, &event))
        die("epoll_ctl");
}

static void serve(const char *port, double seconds)
{
    struct addrinfo *here = resolve(NULL, port);
    int fd = socket(here->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), epoll = epoll_create1(0), one = 1;
    struct epoll_event events[EVENTS];
    double end = now() + seconds;

    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (fd < 0 || bind(fd, here->ai_addr, here->ai_addrlen) || listen(fd, 4096))
        die("listen");
    watch(epoll, fd, EPOLLIN, 0);
    puts("ready");
    fflush(stdout);
    while (now() < end) {
        int ready = epoll_wait(epoll, events, EVENTS, 100);
        for (int i = 0; i < ready; i++) {
            char bytes[64];
            int from = events[i].data.fd, taken;
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

static int start(const struct addrinfo *there)
{
    struct linger reset = {.l_onoff = 1};
    int fd = socket(there->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, there->ai_addr, there->ai_addrlen) && errno != EINPROGRESS)
        die("connect");
    return fd;
}

static void connect_all(const char *address, const char *port, double seconds, int width)
{
    struct addrinfo *there = resolve(address, port);
    int epoll = epoll_create1(0);
    struct epoll_event events[EVENTS];
    uint64_t done = 0, failed = 0;
    double begin, end;

    begin = now();
    end = begin + seconds;
    for (int i = 0; i < width; i++)
        watch(epoll, start(there), EPOLLOUT, 0);
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
            watch(epoll, start(there), EPOLLOUT, 0);
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
    struct addrinfo *there = resolve(address, port);
    float *trips = malloc(MOST_TRIPS * sizeof *trips);
    int fd = start(there);
    size_t count = 0;
    double end = now() + seconds;

    if (fcntl(fd, F_SETFL, 0) || !trips)
        die("fcntl");
    while (now() < end && count < MOST_TRIPS) {
        char byte = 'x';
        double begin = now();
        if (write(fd, &byte, 1) != 1 || read(fd, &byte, 1) != 1)
            die("round trip");
        trips[count++] = (float)((now() - begin) * 1e6);
    }
    qsort(trips, count, sizeof *trips, longer);
    printf("%.1f %.1f\n", (double)trips[count / 2], (double)trips[count * 99 / 100]);
}

int main(int argc, char **argv)
{
    struct rlimit files = {.rlim_cur = 65536, .rlim_max = 65536};

    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 4 && !strcmp(argv[1], "serve"))
        serve(argv[2], atof(argv[3]));
    else if (argc == 6 && !strcmp(argv[1], "connect") && atoi(argv[5]) > 0)
        connect_all(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
    else if (argc == 5 && !strcmp(argv[1], "rr"))
        round_trips(argv[2], argv[3], atof(argv[4]));
    else {
        fprintf(stderr, "usage: tcp_load serve PORT SECONDS | connect ADDRESS PORT SECONDS WIDTH | rr ADDRESS PORT SECONDS\n");
        return 2;
    }
    return 0;
}
