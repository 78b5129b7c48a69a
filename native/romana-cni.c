/*
 * romana-cni: hands a CNI request to romana-agent over a UNIX socket and prints the answer.
 *
 * It parses nothing, but for the cniVersion that an error of its own has to repeat. The request is the environment's CNI_*
 * and ROMANA_* entries and standard input; the answer is an exit status and what to print:
 *
 *   request  u32 length of the rest | u32 length of the environment | entries "K=V\0" ... | standard input
 *   answer   u32 length of the rest | u32 exit status | standard output
 *
 * Numbers are little-endian. An agent that cannot be reached, or that hangs up, is CNI error 11: try again later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define DEFAULT_SOCKET "/run/romana/agent.sock"
#define LARGEST (8u << 20) /* bytes of standard input, environment or answer */
#ifndef SECONDS
#define SECONDS 120 /* that everything together may take */
#endif
#ifndef VERSION
#define VERSION "unknown"
#endif

extern char **environ;

struct buffer {
    char *bytes;
    size_t length, room;
};

static struct buffer input; /* standard input, for the version in an error */

/* The value of the first "cniVersion" in standard input, when it looks like a version. */
static void find_version(char *version, size_t room)
{
    static const char name[] = "\"cniVersion\"";
    const char *at = input.bytes ? memmem(input.bytes, input.length, name, sizeof name - 1) : NULL;
    const char *end = input.bytes + input.length;
    size_t length = 0;

    snprintf(version, room, "1.0.0");
    if (!at)
        return;
    at += sizeof name - 1;
    while (at < end && strchr(" \t\r\n:", *at) && *at)
        at++;
    if (at == end || *at++ != '"')
        return;
    while (at + length < end && ((at[length] >= '0' && at[length] <= '9') || at[length] == '.'))
        length++;
    if (length > 0 && length < room && at + length < end && at[length] == '"') {
        memcpy(version, at, length);
        version[length] = 0;
    }
}

/* Prints an error as the specification has it, and ends. */
static _Noreturn void refuse(int code, const char *message, const char *what, int error, const char *advice)
{
    char version[32];

    find_version(version, sizeof version);
    printf("{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s%s%s%s\"}\n", version, code, message,
           what, error ? ": " : "", error ? strerror(error) : "", advice);
    fflush(stdout);
    exit(1);
}

/* CNI error 11. */
static _Noreturn void fail(const char *what, int error)
{
    refuse(11, "romana-agent is not reachable, try again later", what, error, "; is romana-agent running on this host?");
}

/* Whether a text may stand in a JSON string as it is. */
static int is_plain(const char *text)
{
    while (*text >= ' ' && *text < 127 && *text != '"' && *text != '\\')
        text++;
    return !*text;
}

/* CNI error 11, for a socket whose path is short enough for an address. */
static _Noreturn void fail_at_socket(const char *path, int error)
{
    char what[160];

    snprintf(what, sizeof what, "connecting to the agent's socket%s%.110s", is_plain(path) ? " " : "",
             is_plain(path) ? path : "");
    fail(what, error);
}

/* CNI error 7: repeating it would not help. */
static _Noreturn void too_large(const char *what)
{
    refuse(7, "the request is too large", what, 0, " over 8 MiB");
}

static void add(struct buffer *buffer, const void *bytes, size_t length)
{
    if (length > LARGEST || buffer->length + length > 2 * (size_t)LARGEST)
        too_large("standard input or the environment has");
    if (buffer->length + length > buffer->room) {
        size_t room = (buffer->length + length) * 2 + 4096;
        char *bigger = realloc(buffer->bytes, room);
        if (!bigger)
            fail("no memory", 0);
        buffer->bytes = bigger;
        buffer->room = room;
    }
    memcpy(buffer->bytes + buffer->length, bytes, length);
    buffer->length += length;
}

static void put32(char *place, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        place[i] = (char)(value >> (8 * i));
}

static uint32_t get32(const unsigned char *place)
{
    return place[0] | (uint32_t)place[1] << 8 | (uint32_t)place[2] << 16 | (uint32_t)place[3] << 24;
}

static void read_input(void)
{
    char part[65536];
    ssize_t got;

    while ((got = read(0, part, sizeof part)) != 0) {
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            fail("reading standard input", errno);
        if (input.length + (size_t)got > LARGEST)
            too_large("standard input has");
        add(&input, part, (size_t)got);
    }
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int64_t deadline;

/* Waits until the socket can do it; ends when the time is over. */
static void await(int fd, short what)
{
    struct pollfd one = {.fd = fd, .events = what};

    for (;;) {
        int64_t left = deadline - now_ms();
        int ready = left > 0 ? poll(&one, 1, (int)left) : 0;
        if (ready > 0)
            return;
        if (ready == 0)
            fail("no answer within the time limit", 0);
        if (errno != EINTR)
            fail("waiting for the agent", errno);
    }
}

static void send_all(int fd, const char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t sent = send(fd, bytes, length, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0 && (errno == EAGAIN || errno == EINTR)) {
            await(fd, POLLOUT);
            continue;
        }
        if (sent < 0)
            fail("sending the request", errno);
        bytes += sent;
        length -= (size_t)sent;
    }
}

static void receive_all(int fd, unsigned char *bytes, size_t length)
{
    while (length > 0) {
        ssize_t got = recv(fd, bytes, length, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
            await(fd, POLLIN);
            continue;
        }
        if (got < 0)
            fail("receiving the answer", errno);
        if (got == 0)
            fail("the agent hung up before it answered", 0);
        bytes += got;
        length -= (size_t)got;
    }
}

static int connected(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0)
        fail("making a socket", errno);
    if (strlen(path) >= sizeof address.sun_path)
        fail("the path of the agent's socket is too long", 0);
    memcpy(address.sun_path, path, strlen(path) + 1);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = SECONDS}, sizeof(struct timeval));
    while (connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
        if (errno == EAGAIN)
            fail("the agent did not take the connection within the time limit", 0);
        else if (errno != EINTR)
            fail_at_socket(path, errno);
    return fd;
}

int main(int argc, char **argv)
{
    static const char zeros[8];
    const char *path = getenv("ROMANA_AGENT_SOCKET");
    struct buffer request = {0};
    unsigned char head[8];
    size_t left;
    int fd;

    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        puts("romana-cni " VERSION);
        return 0;
    }
    deadline = now_ms() + SECONDS * 1000;
    read_input();
    add(&request, zeros, sizeof zeros);
    for (char **entry = environ; *entry; entry++)
        if (strncmp(*entry, "CNI_", 4) == 0 || strncmp(*entry, "ROMANA_", 7) == 0)
            add(&request, *entry, strlen(*entry) + 1);
    put32(request.bytes + 4, (uint32_t)(request.length - sizeof zeros));
    add(&request, input.bytes ? input.bytes : "", input.length);
    put32(request.bytes, (uint32_t)(request.length - 4));

    fd = connected(path && *path ? path : DEFAULT_SOCKET);
    send_all(fd, request.bytes, request.length);
    receive_all(fd, head, sizeof head);
    left = get32(head);
    if (left < 4 || left > LARGEST || get32(head + 4) > 255)
        fail("the agent's answer makes no sense", 0);
    left -= 4;
    unsigned char *answer = malloc(left + 1);
    if (!answer)
        fail("no memory", 0);
    receive_all(fd, answer, left);
    if (fwrite(answer, 1, left, stdout) != left || fflush(stdout) != 0)
        return 1;
    free(answer);
    free(request.bytes);
    free(input.bytes);
    return (int)get32(head + 4);
}
