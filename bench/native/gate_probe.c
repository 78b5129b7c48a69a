/* When a receiver begins and ceases to be reached: one datagram every so often, each from a port of its own.
 *
 * gate_probe SENDER_NETNS RECEIVER_NETNS ADDRESS PORT MICROSECONDS
 *
 * Prints, until standard input ends, one line for each change: "open T" (T: CLOCK_MONOTONIC in ns at which the first
 * datagram was sent that arrived), "closed T" (the last one that arrived), once it has lasted for QUIET datagrams.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUIET 40

static void fail(const char *what) {
    fprintf(stderr, "gate_probe: %s: %s\n", what, strerror(errno));
    exit(1);
}

static uint64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void enter(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || setns(fd, CLONE_NEWNET)) fail(path);
    close(fd);
}

int main(int argc, char **argv) {
    if (argc != 6) {
        fprintf(stderr, "usage: gate_probe SENDER_NETNS RECEIVER_NETNS ADDRESS PORT MICROSECONDS\n");
        return 2;
    }
    struct sockaddr_in there = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[4]))};
    if (inet_pton(AF_INET, argv[3], &there.sin_addr) != 1) fail("address");
    /* What waits for its turn on a processor measures the scheduler. */
    struct sched_param before_others = {.sched_priority = 1};
    if (sched_setscheduler(0, SCHED_FIFO, &before_others)) fail("sched_setscheduler");
    uint64_t pause = (uint64_t)atoi(argv[5]) * 1000u, last = 0, run = 0, first = 0, next;
    int open_now = -1;
    enter(argv[2]);
    int receiver = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (receiver < 0 || bind(receiver, (struct sockaddr *)&there, sizeof there)) fail("receiver");
    enter(argv[1]);
    fcntl(0, F_SETFL, O_NONBLOCK);
    setvbuf(stdout, NULL, _IOLBF, 0);
    next = now();
    for (;;) {
        char word;
        if (read(0, &word, 1) == 0) return 0;
        uint64_t sent = now(), got;
        int sender = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), arrived = 0;
        if (sender < 0) fail("socket");
        if (sendto(sender, &sent, sizeof sent, 0, (struct sockaddr *)&there, sizeof there) < 0 && errno != EPERM)
            fail("sendto");
        close(sender);
        /* Everything is on one machine: what arrives is there when sendto is done, or a little later. */
        struct pollfd waiting = {.fd = receiver, .events = POLLIN};
        struct timespec moment = {.tv_nsec = 100000};
        ppoll(&waiting, 1, &moment, NULL);
        while (recv(receiver, &got, sizeof got, 0) == sizeof got) {
            arrived = 1;
            last = got;
        }
        if (arrived) {
            if (!first) first = last;
            if (++run == QUIET || open_now < 0) {
                if (open_now != 1) printf("open %llu\n", (unsigned long long)first);
                open_now = 1;
            }
        } else {
            first = 0, run = 0;
            if (open_now != 0 && sent - last > QUIET * pause) {
                printf("closed %llu\n", (unsigned long long)last);
                open_now = 0;
            }
        }
        next += pause;
        uint64_t late = now();
        if (next < late) next = late;
        struct timespec until = {.tv_sec = (time_t)(next / 1000000000u), .tv_nsec = (long)(next % 1000000000u)};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
}
