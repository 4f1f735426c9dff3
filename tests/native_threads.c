/* Threads that run and replay kernels on the one pool, change its size, and fork: for ThreadSanitizer; see .ci/sanitizers.
 * Every result is compared, bit by bit, with that of one thread. */
#include "tgr.h"
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The sanitizer reads the instructions of one set: the others are not there. */
static int never(void) { return 0; }
const tgr_isa tgr_isa_avx2 = {.name = "avx2", .supported = never}, tgr_isa_avx512 = {.name = "avx512", .supported = never};

enum { CALLERS = 4, ROUNDS = 40, FORKS = 25, SIDE = 160, LENGTH = 200000, CALLS = 3 };

/* What one caller computes: a product, a tanh and a softmax, each worth several threads. */
typedef struct {
    float *a, *product, *x, *y, *dy, *soft;
    void *p[9 + 3 + 2];
    ptrdiff_t n[12 + 1 + 3];
    tgr_call calls[CALLS];
} job;

static atomic_int stop, wrong;

static float *array(ptrdiff_t n) { return calloc((size_t)n, sizeof(float)); }

static void prepare(job *j)
{
    j->a = array(SIDE * SIDE), j->product = array(SIDE * SIDE);
    j->x = array(LENGTH), j->y = array(LENGTH), j->dy = array(LENGTH), j->soft = array(LENGTH);
    for (int i = 0; i < SIDE * SIDE; i++) j->a[i] = (float)(i % 97) / 97 - 0.4f;
    for (int i = 0; i < LENGTH; i++) j->x[i] = (float)(i % 1013) / 100 - 5;
    void *p[] = {j->product, NULL, j->a, j->a, NULL, NULL, NULL, NULL, NULL, j->y, j->dy, j->x, j->soft, j->x};
    const ptrdiff_t n[] = {1, SIDE, SIDE, SIDE, 0, SIDE, 1, 0, SIDE, 1, 0, TGR_IDENTITY, LENGTH, LENGTH / 100, 100, 1};
    memcpy(j->p, p, sizeof p);
    memcpy(j->n, n, sizeof n);
    j->calls[0] = (tgr_call){.kernel = TGR_K_matmul};
    j->calls[1] = (tgr_call){.kernel = TGR_K_tanh, .p_at = 9, .n_at = 12};
    j->calls[2] = (tgr_call){.kernel = TGR_K_softmax, .p_at = 12, .n_at = 13};
    for (int i = 0; i < CALLS; i++) j->calls[i].is_long = tgr_is_long(j->calls[i].kernel, j->n + j->calls[i].n_at, NULL);
}

/* Replays all calls of a job, or runs them one by one; returns whether that went well. */
static int compute(job *j, int replays)
{
    ptrdiff_t done = 0, at = 0;
    if (!replays) {
        for (int i = 0; i < CALLS; i++)
            if (tgr_isa_baseline.kernels[0][j->calls[i].kernel](j->p + j->calls[i].p_at, j->n + j->calls[i].n_at, NULL)) return 0;
        return 1;
    }
    for (;;) {
        const int status = tgr_replay(&tgr_isa_baseline, j->calls + at, CALLS - at, j->p, j->n, NULL, 1e-4, &done);
        at += done;
        if (status != TGR_TIME_IS_UP) return status == TGR_OK && at == CALLS;
    }
}

static int same(const job *a, const job *b)
{
    return !memcmp(a->product, b->product, SIDE * SIDE * sizeof(float)) && !memcmp(a->y, b->y, LENGTH * sizeof(float)) &&
           !memcmp(a->dy, b->dy, LENGTH * sizeof(float)) && !memcmp(a->soft, b->soft, LENGTH * sizeof(float));
}

static job expected;

static void *call(void *number)
{
    job mine;
    prepare(&mine);
    for (int i = 0; i < ROUNDS; i++) {
        if (!compute(&mine, (i + (int)(intptr_t)number) % 2) || !same(&mine, &expected)) atomic_fetch_add(&wrong, 1);
        memset(mine.y, 0, LENGTH * sizeof(float));
    }
    return NULL;
}

static void *resize(void *none)
{
    (void)none;
    for (int i = 0; !atomic_load(&stop); i++) {
        tgr_set_threads(1 + i % 4);
        if (tgr_threads_running() > CALLERS + 3) atomic_fetch_add(&wrong, 1);
        usleep(500);
    }
    return NULL;
}

int main(void)
{
    pthread_t callers[CALLERS], resizer;
    job own;
    if (!tgr_start()) return 2;
    prepare(&expected);
    prepare(&own);
    if (!compute(&expected, 0)) return 2;
    tgr_set_threads(3);
    pthread_create(&resizer, NULL, resize, NULL);
    for (int i = 0; i < CALLERS; i++) pthread_create(&callers[i], NULL, call, (void *)(intptr_t)i);
    for (int i = 0; i < FORKS; i++) {
        const pid_t child = fork();
        if (child == 0) {
            alarm(120); /* ends a child that hangs */
            tgr_set_threads(2);
            _exit(!(compute(&own, 1) && same(&own, &expected) && tgr_threads_running() == 0));
        }
        int status = 1;
        if (waitpid(child, &status, 0) != child || status) {
            printf("child %d ended with status %d\n", i, status);
            atomic_fetch_add(&wrong, 1);
        }
    }
    for (int i = 0; i < CALLERS; i++) pthread_join(callers[i], NULL);
    atomic_store(&stop, 1);
    pthread_join(resizer, NULL);
    printf("%d callers of %d rounds, %d children: %d wrong\n", CALLERS, ROUNDS, FORKS, atomic_load(&wrong));
    return atomic_load(&wrong) != 0;
}
