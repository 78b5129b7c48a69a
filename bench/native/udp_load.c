/*
 * One-way UDP from many sources.
 *
 *   udp_load sink PORT                      counts what arrives until nothing does any more; prints packets per second
 *   udp_load send ADDRESS PORT SECONDS      sends small packets as fast as it can, each from a random one of the
 *                                           sources; prints packets per second handed to the kernel
 */
#define _GNU_SOURCE
#include "load.h"
#include <netinet/in.h>

enum { BATCH = 64, SIZE = 64 };

static const double PATIENCE = 10, QUIET = 0.1; /* seconds: until the first packet, and after the last */

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

/* It looks now and then and never waits in the kernel: to wake it would cost the sender's processor more than a packet. */
static void sink(const char *port)
{
    struct sockaddr_in here = peer("0.0.0.0", port);
    struct timespec nap = {.tv_nsec = 1000000};
    struct mmsghdr *batch = messages();
    int fd = socket(AF_INET, SOCK_DGRAM, 0), room = 64 << 20;
    double first = 0, last = now() + PATIENCE;
    uint64_t count = 0;

    if (fd < 0 || bind(fd, (struct sockaddr *)&here, sizeof here))
        die("bind");
    if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room))
        die("SO_RCVBUFFORCE");
    puts("ready");
    fflush(stdout);
    while (now() < last + QUIET) {
        int got = recvmmsg(fd, batch, BATCH, MSG_DONTWAIT, NULL);
        if (got <= 0) {
            nanosleep(&nap, NULL);
            continue;
        }
        last = now();
        if (!first)
            first = last;
        else
            count += (uint64_t)got;
    }
    printf("%.0f\n", count ? (double)count / (last - first) : 0.0);
}

static void send_all(const char *address, const char *port, double seconds)
{
    struct sockaddr_in there = peer(address, port);
    struct mmsghdr *batch = messages();
    int count, room = 1 << 20, fd = socket(AF_INET, SOCK_DGRAM, 0);
    const struct sockaddr_in *from = sources(&count);
    static union {
        struct cmsghdr header;
        char room[CMSG_SPACE(sizeof(struct in_pktinfo))];
    } source[BATCH];
    struct in_pktinfo *said[BATCH];
    uint64_t done = 0;
    double begin, end;

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    for (int i = 0; i < BATCH; i++) {
        struct msghdr *message = &batch[i].msg_hdr;
        message->msg_name = &there;
        message->msg_namelen = sizeof there;
        message->msg_control = &source[i];
        message->msg_controllen = sizeof source[i];
        source[i].header = (struct cmsghdr){
            .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO, .cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo))};
        said[i] = (struct in_pktinfo *)CMSG_DATA(&source[i].header);
        memset(said[i], 0, sizeof *said[i]);
    }
    begin = now();
    end = begin + seconds;
    while (now() < end) {
        for (int i = 0; i < BATCH; i++)
            said[i]->ipi_spec_dst = from[any((uint32_t)count)].sin_addr;
        int sent = sendmmsg(fd, batch, BATCH, 0);
        if (sent < 0 && errno != ECONNREFUSED && errno != ENOBUFS && errno != EPERM)
            die("sendmmsg");
        done += sent > 0 ? (uint64_t)sent : 0;
    }
    printf("%.0f\n", (double)done / (now() - begin));
}

int main(int argc, char **argv)
{
    if (argc == 3 && !strcmp(argv[1], "sink"))
        sink(argv[2]);
    else if (argc == 5 && !strcmp(argv[1], "send"))
        send_all(argv[2], argv[3], atof(argv[4]));
    else {
        fprintf(stderr, "usage: udp_load sink PORT | udp_load send ADDRESS PORT SECONDS\n");
        return 2;
    }
    return 0;
}
