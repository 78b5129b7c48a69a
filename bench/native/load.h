/* What the load generators share. Sources are addresses on standard input, one a line, all local to the namespace. */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MOST_SOURCES = 65536 };

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

static struct sockaddr_in peer(const char *address, const char *port)
{
    struct sockaddr_in result = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};

    if (inet_pton(AF_INET, address, &result.sin_addr) != 1)
        die(address);
    return result;
}

/* The addresses on standard input, with any port. */
static struct sockaddr_in *sources(int *count)
{
    static struct sockaddr_in result[MOST_SOURCES];
    char line[INET_ADDRSTRLEN + 1];

    for (*count = 0; *count < MOST_SOURCES && scanf("%16s", line) == 1; ++*count)
        result[*count] = peer(line, "0");
    if (!*count)
        die("no sources");
    return result;
}

/* Fast and the same in every run. */
static uint32_t any(uint32_t below)
{
    static uint64_t state = 88172645463325252u;

    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(((state >> 32) * below) >> 32);
}
