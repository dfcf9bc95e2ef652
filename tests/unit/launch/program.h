/* The programs that the launch tests run: this binary itself with a mode as its first argument. */
#ifndef OT_TESTS_LAUNCH_PROGRAM_H
#define OT_TESTS_LAUNCH_PROGRAM_H

#include "launch/shim.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Leaves the session and the parent as daemons do, and writes its pid to a file. */
static void become_daemon(const char *pid_file)
{
    if (fork() != 0) {
        return;
    }
    setsid();
    if (fork() != 0) {
        _exit(0);
    }
    FILE *f = fopen(pid_file, "w");
    fprintf(f, "%d", (int)getpid());
    fclose(f);
    for (;;) {
        pause();
    }
}

/* Never returns when this process was started as the shim or as a test's program. */
static void run_as_program(int argc, char **argv)
{
    if (argc < 2) {
        return;
    }
    if (strcmp(argv[1], "shim") == 0) {
        if (argc > 4 && strcmp(argv[3], "--spare-fd") == 0) {
            exit(ot_shim_spare_main(atoi(argv[4])));
        }
        exit(ot_shim_main(argv[2], argc > 4 ? atoi(argv[4]) : -1));
    }
    if (strcmp(argv[1], "daemon") == 0) { /* FILE, SECONDS to go on */
        become_daemon(argv[2]);
        for (int i = 0; i < 500 && access(argv[2], F_OK) != 0; i++) {
            usleep(10000);
        }
        sleep((unsigned)atoi(argv[3]));
        exit(0);
    }
    if (strcmp(argv[1], "hog") == 0) { /* MiB, processes */
        for (int i = atoi(argv[3]); i > 1 && fork() != 0; i--) {
        }
        size_t n = (size_t)atoi(argv[2]) << 20;
        volatile char *p = malloc(n);
        for (size_t i = 0; p != NULL && i < n; i += 4096) {
            p[i] = 1;
        }
        printf("touched\n");
        fflush(stdout);
        sleep(20);
        exit(0);
    }
    if (strcmp(argv[1], "policy") == 0) {
        printf("%d\n", sched_getscheduler(0));
        fflush(stdout);
        if (access("/proc/self/autogroup", F_OK) == 0) {
            execlp(
                "sh", "sh", "-c",
                "echo \"$(cut -d' ' -f1 /proc/self/autogroup)\";"
                "setsid sh -c 'for i in $(seq 100); do v=$(cut -d\" \" -f3 /proc/self/autogroup);"
                " [ $v = 19 ] && break; sleep 0.2; done; echo $v'",
                (char *)NULL);
        }
        printf("none\n19\n");
        exit(0);
    }
}

#endif
