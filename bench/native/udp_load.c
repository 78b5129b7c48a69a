/*
 * One-way UDP over many flows.
 *
 *   udp_load sink PORT SECONDS                      counts what arrives; prints packets per second
 *   udp_load send ADDRESS PORT SECONDS FLOWS        sends small packets as fast as it can, each from a random one of
 *                                                   FLOWS source ports; prints packets per second handed to the kernel
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 32, SIZE = 64 };

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
    struct addrinfo hints = {.ai_socktype = SOCK_DGRAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV}, *found;

    if (!address)
        hints.ai_flags |= AI_PASSIVE, hints.ai_family = AF_INET6;
    if (getaddrinfo(address, port, &hints, &found))
        die("getaddrinfo");
    return found;
}

static struct mmsghdr *messages(void)
{
    static char bytes[BATCH][SIZE];
    static struct iovec parts[BATCH];
    static struct mmsghdr result[BATCH];

    for (int i = 0; i < BATCH; i++) {
        parts[i] = (struct iovec){.iov_base = bytes[i], .iov_len = SIZE};
        result[i].msg_hdr = (struct msghdr){.msg_iov = &parts[i], .msg_iovlen = 1};
    }
    return result;
}

static void sink(const char *port, double seconds)
{
    struct addrinfo *here = resolve(NULL, port);
    struct timeval wait = {.tv_usec = 100000};
    struct mmsghdr *batch = messages();
    int fd = socket(here->ai_family, SOCK_DGRAM, 0), room = 8 << 20;
    double first = 0, last = 0, end = now() + seconds;
    uint64_t count = 0;

    if (fd < 0 || bind(fd, here->ai_addr, here->ai_addrlen))
        die("bind");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    puts("ready");
    fflush(stdout);
    while (now() < end) {
        int got = recvmmsg(fd, batch, BATCH, MSG_WAITFORONE, NULL);
        if (got <= 0)
            continue;
        last = now();
        if (!count)
            first = last;
        count += (uint64_t)got;
    }
    printf("%.0f\n", last > first ? (double)count / (last - first) : 0.0);
}

static void send_all(const char *address, const char *port, double seconds, int flows)
{
    struct addrinfo *there = resolve(address, port);
    struct mmsghdr *batch = messages();
    int *sockets = calloc((size_t)flows, sizeof *sockets), room = 1 << 20;
    uint64_t count = 0;
    double begin, end;

    for (int i = 0; i < flows; i++) {
        sockets[i] = socket(there->ai_family, SOCK_DGRAM, 0);
        if (sockets[i] < 0 || connect(sockets[i], there->ai_addr, there->ai_addrlen))
            die("connect");
        setsockopt(sockets[i], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    }
    begin = now();
    end = begin + seconds;
    while (now() < end)
        for (int i = 0; i < 16; i++) {
            int sent = sendmmsg(sockets[rand() % flows], batch, 4, 0);
            if (sent < 0 && errno != ECONNREFUSED && errno != ENOBUFS && errno != EPERM)
                die("sendmmsg");
            count += sent > 0 ? (uint64_t)sent : 0;
        }
    printf("%.0f\n", (double)count / (now() - begin));
}

int main(int argc, char **argv)
{
    struct rlimit files = {.rlim_cur = 65536, .rlim_max = 65536};

    setrlimit(RLIMIT_NOFILE, &files);
    if (argc == 4 && !strcmp(argv[1], "sink"))
        sink(argv[2], atof(argv[3]));
    else if (argc == 6 && !strcmp(argv[1], "send") && atoi(argv[5]) > 0)
        send_all(argv[2], argv[3], atof(argv[4]), atoi(argv[5]));
    else {
        fprintf(stderr, "usage: udp_load sink PORT SECONDS | udp_load send ADDRESS PORT SECONDS FLOWS\n");
        return 2;
    }
    return 0;
}
