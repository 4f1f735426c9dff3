/* Splits a kernel over threads: one pool of helpers for the whole process.
 *
 * A part of a kernel writes its own slice of the output with the very operations that the whole would use, so neither the number
 * of threads nor who takes which part changes a bit. One kernel has the pool at a time; another that wants it meanwhile runs in
 * its caller's thread alone, so there are never more threads than callers and helpers.
 *
 * Why not OpenMP: its region ends when every thread of the team has been scheduled, so on a machine with other work a product of
 * 90 us waited milliseconds for a helper that had nothing left to do, and a forked child cannot use it at all. Here the caller
 * takes parts too, and waits only for parts that a helper has begun; a child starts helpers of its own. */
#include "tgr.h"
#include <stdatomic.h>
#include <stdlib.h>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#if defined(__linux__)
#include <sys/prctl.h>
#endif

/* The floating-point control word: rounding mode, subnormals as zeros, traps. It belongs to a thread, and others change it behind our
 * backs (fesetround, a library with fast-math), so a helper takes over its caller's: bits must not depend on who computes them. */
#if defined(__SSE__)
#include <xmmintrin.h>
typedef unsigned control_word;
static inline control_word get_control(void) { return _mm_getcsr() & ~0x3fu; } /* without the flags of what happened */
static inline void set_control(const control_word *to) { _mm_setcsr(*to); }
#elif defined(__aarch64__)
typedef uint64_t control_word;
static inline control_word get_control(void)
{
    control_word now;
    __asm__ volatile("mrs %0, fpcr" : "=r"(now));
    return now;
}
static inline void set_control(const control_word *to) { __asm__ volatile("msr fpcr, %0" : : "r"(*to) : "memory"); }
#else
#include <fenv.h>
typedef fenv_t control_word;
static inline control_word get_control(void)
{
    control_word now;
    fegetenv(&now);
    return now;
}
static inline void set_control(const control_word *to) { fesetenv(to); }
#endif

enum { MOST_THREADS = 256, SPINS = 4000 }; /* a spin is some 10 to 40 ns */

static atomic_int limit = 1;
static atomic_int busy;    /* does a kernel have the pool? */
static atomic_int running; /* threads inside a part */
static int helpers;        /* started so far; only whoever has the pool starts more */

/* The job. `claim` is (serial number << 32 | parts << 16 | next part): a helper that increments it owns part `next`, and the job
 * cannot end, nor the fields below change, before that part is done. */
static atomic_ullong claim;
static atomic_int done;
static tgr_part job_part;
static const void *job_context;
static control_word job_control; /* its caller's */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t work_to_do = PTHREAD_COND_INITIALIZER;
static atomic_int sleeping;

static inline void pause_briefly(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int parts_left(unsigned long long c) { return (int)(c & 0xffff) < (int)(c >> 16 & 0xffff); }

/* Takes parts of the present job until none is left; a helper, under the caller's control word. */
static void take_parts(int helper)
{
    unsigned long long c = atomic_load(&claim);
    while (parts_left(c)) {
        if (!atomic_compare_exchange_weak(&claim, &c, c + 1)) continue;
        if (helper) set_control(&job_control);
        atomic_fetch_add(&running, 1);
        job_part(job_context, (int)(c & 0xffff), (int)(c >> 16 & 0xffff));
        atomic_fetch_sub(&running, 1);
        atomic_fetch_add(&done, 1);
        c = atomic_load(&claim);
    }
}

/* memory: of tgr_new_scratch, the number of the helper at its beginning */
static void *help(void *memory)
{
    const int me = *(const int *)memory;
    if (!tgr_adopt_scratch(memory)) return NULL; /* the caller does without */
#if defined(__linux__)
    prctl(PR_SET_NAME, "tgr-helper");
#endif
    for (;;) {
        for (int i = 0; i < SPINS && !parts_left(atomic_load(&claim)); i++) pause_briefly();
        if (me < atomic_load(&limit) && parts_left(atomic_load(&claim))) {
            take_parts(1);
            continue;
        }
        pthread_mutex_lock(&lock);
        atomic_fetch_add(&sleeping, 1);
        while (me >= atomic_load(&limit) || !parts_left(atomic_load(&claim))) pthread_cond_wait(&work_to_do, &lock);
        atomic_fetch_sub(&sleeping, 1);
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

/* In a forked child: the helpers did not come along, nor did whoever had the pool. */
static void forget_helpers(void)
{
    helpers = 0;
    atomic_store(&busy, 0);
    atomic_store(&running, 0);
    atomic_store(&sleeping, 0);
    atomic_store(&claim, 0);
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
    work_to_do = (pthread_cond_t)PTHREAD_COND_INITIALIZER;
}

int tgr_start_threads(void) { return pthread_atfork(NULL, NULL, forget_helpers) == 0; }

/* Starts helpers until there are `wanted`, or as many as there is memory for. */
static void start_helpers(int wanted)
{
    sigset_t all, before;
    pthread_t thread;
    pthread_attr_t detached;
    if (pthread_attr_init(&detached)) return;
    pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
    sigfillset(&all); /* signals are for the program's own threads */
    pthread_sigmask(SIG_BLOCK, &all, &before);
    while (helpers < wanted) {
        int *memory = tgr_new_scratch();
        if (!memory) break;
        *memory = helpers + 1;
        if (pthread_create(&thread, &detached, help, memory)) {
            free(memory);
            break;
        }
        helpers++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&detached);
}

int tgr_threads(void) { return atomic_load(&limit); }

void tgr_set_threads(int n) { atomic_store(&limit, n < 1 ? 1 : n > MOST_THREADS ? MOST_THREADS : n); }

int tgr_threads_running(void) { return atomic_load(&running); }

void tgr_parallel(ptrdiff_t work, ptrdiff_t most, tgr_part part, const void *context)
{
    ptrdiff_t threads = work / TGR_WORK_PER_THREAD;
    int free_pool = 0;
    if (threads > tgr_threads()) threads = tgr_threads();
    if (threads > most) threads = most;
    if (threads <= 1 || !atomic_compare_exchange_strong(&busy, &free_pool, 1)) {
        part(context, 0, 1);
        return;
    }
    if (helpers < threads - 1) start_helpers((int)threads - 1);
    const ptrdiff_t parts = threads; /* more, smaller ones would balance better, but each packs operands anew */
    job_part = part;
    job_context = context;
    job_control = get_control();
    atomic_store(&done, 0);
    const unsigned long long serial = (atomic_load(&claim) >> 32) + 1;
    atomic_store(&claim, serial << 32 | (unsigned long long)parts << 16);
    if (atomic_load(&sleeping)) {
        pthread_mutex_lock(&lock);
        pthread_cond_broadcast(&work_to_do);
        pthread_mutex_unlock(&lock);
    }
    take_parts(0);
    for (int i = 0; atomic_load(&done) < parts; i++)
        if (i < SPINS)
            pause_briefly();
        else
            sched_yield();
    atomic_store(&busy, 0);
}

#else /* no threads: every kernel runs in its caller's */

int tgr_start_threads(void) { return 1; }
int tgr_threads(void) { return 1; }
void tgr_set_threads(int n) { (void)n; }
int tgr_threads_running(void) { return 0; }

void tgr_parallel(ptrdiff_t work, ptrdiff_t most, tgr_part part, const void *context)
{
    (void)work, (void)most;
    part(context, 0, 1);
}

#endif
