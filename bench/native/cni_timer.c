/*
 * Runs a CNI plugin for a list of containers, as a runtime does, and times each run from posix_spawn to exit.
 *
 *   cni_timer PLUGIN VERB CONFIGURATION-FILE PARALLEL < list
 *
 * The list has a line `<container id> <path of its network namespace>` each. Standard output gets a line a container:
 * its id, start and end (microseconds since the first start), processor time of the plugin and its children
 * (microseconds), exit status. What a plugin prints goes to standard error when it fails. CNI_PATH and CNI_ARGS come
 * from the environment.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST = 65536, ENTRIES = 16 };

struct job {
    char id[128], space[256];
    double start, end;
    long cpu;
    int status;
};

static struct job *jobs;
static int count, next;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *plugin, *verb, *configuration;
static double began;

static double now_us(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static long cpu_us(const struct rusage *used)
{
    return (used->ru_utime.tv_sec + used->ru_stime.tv_sec) * 1000000 + used->ru_utime.tv_usec + used->ru_stime.tv_usec;
}

static void run(struct job *job)
{
    char texts[ENTRIES][512], *environment[ENTRIES], output[65536];
    const char *kept[] = {"PATH", "CNI_PATH", "CNI_ARGS", "ROMANA_AGENT_SOCKET"};
    char *arguments[] = {(char *)plugin, NULL};
    posix_spawn_file_actions_t actions;
    int entries = 0, ends[2], status, failed;
    size_t size = 0;
    ssize_t got;
    struct rusage used;
    pid_t pid;

    snprintf(texts[entries++], sizeof texts[0], "CNI_COMMAND=%s", verb);
    snprintf(texts[entries++], sizeof texts[0], "CNI_CONTAINERID=%s", job->id);
    snprintf(texts[entries++], sizeof texts[0], "CNI_NETNS=%s", job->space);
    snprintf(texts[entries++], sizeof texts[0], "CNI_IFNAME=eth0");
    for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
        if (getenv(kept[i]))
            snprintf(texts[entries++], sizeof texts[0], "%s=%s", kept[i], getenv(kept[i]));
    for (int i = 0; i < entries; i++)
        environment[i] = texts[i];
    environment[entries] = NULL;

    if (pipe2(ends, O_CLOEXEC))
        die("pipe");
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, configuration, O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
    job->start = now_us();
    failed = posix_spawn(&pid, plugin, &actions, NULL, arguments, environment);
    if (failed) {
        errno = failed;
        die(plugin);
    }
    close(ends[1]);
    while ((got = read(ends[0], output + size, sizeof output - 1 - size)) > 0)
        size += (size_t)got;
    if (wait4(pid, &status, 0, &used) != pid)
        die("wait4");
    job->end = now_us();
    close(ends[0]);
    posix_spawn_file_actions_destroy(&actions);
    job->cpu = cpu_us(&used);
    job->status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    if (job->status)
        fprintf(stderr, "%s %s: status %d: %.*s\n", verb, job->id, job->status, (int)size, output);
}

static void *work(void *unused)
{
    (void)unused;
    for (;;) {
        pthread_mutex_lock(&lock);
        struct job *job = next < count ? &jobs[next++] : NULL;
        pthread_mutex_unlock(&lock);
        if (!job)
            return NULL;
        run(job);
    }
}

int main(int argc, char **argv)
{
    pthread_t threads[256];
    int parallel, failures = 0;

    if (argc != 5 || (parallel = atoi(argv[4])) < 1 || parallel > 256) {
        fprintf(stderr, "usage: cni_timer PLUGIN VERB CONFIGURATION-FILE PARALLEL(1-256) < list\n");
        return 2;
    }
    plugin = argv[1], verb = argv[2], configuration = argv[3];
    jobs = calloc(MOST, sizeof *jobs);
    if (!jobs)
        die("calloc");
    while (count < MOST && scanf("%127s %255s", jobs[count].id, jobs[count].space) == 2)
        count++;
    began = now_us();
    for (int i = 0; i < parallel; i++)
        if (pthread_create(&threads[i], NULL, work, NULL))
            die("pthread_create");
    for (int i = 0; i < parallel; i++)
        pthread_join(threads[i], NULL);
    for (int i = 0; i < count; i++) {
        printf("%s %.0f %.0f %ld %d\n", jobs[i].id, jobs[i].start - began, jobs[i].end - began, jobs[i].cpu,
               jobs[i].status);
        failures += jobs[i].status != 0;
    }
    return failures ? 1 : 0;
}
