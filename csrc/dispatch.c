/* What the machine offers: instruction sets, of which the best is chosen once, cache sizes, memory of a thread. */
#include "tgr.h"
#include <stdlib.h>
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <unistd.h>
#elif defined(_WIN32)
#include <windows.h>
#endif
#ifdef TGR_HAVE_X86_VARIANTS
#include <cpuid.h>
#endif

static const tgr_isa *const isas[] = {
    &tgr_isa_baseline,
#ifdef TGR_HAVE_X86_VARIANTS
    &tgr_isa_avx2,
    &tgr_isa_avx512,
#endif
};

#ifdef TGR_HAVE_X86_VARIANTS
/* By hand, for __builtin_cpu_supports needs the compiler's own library, which clang-cl does not link. */
int tgr_x86_level(void)
{
    const unsigned avx_fma = bit_OSXSAVE | bit_AVX | bit_FMA;
    const unsigned avx512 = bit_AVX512F | bit_AVX512DQ | bit_AVX512BW | bit_AVX512VL;
    unsigned a, b, c, d, saved, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || (c & avx_fma) != avx_fma) return 0;
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0)); /* the registers that the system saves */
#if defined(__APPLE__)
    saved |= 0xe0; /* those of AVX-512 from their first use on */
#endif
    if ((saved & 0x06) != 0x06) return 0;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & bit_AVX2)) return 0;
    return (saved & 0xe0) == 0xe0 && (b & avx512) == avx512 ? 2 : 1;
}
#endif

int tgr_isa_count(void) { return (int)(sizeof isas / sizeof *isas); }

const tgr_isa *tgr_isa_at(int i) { return isas[i]; }

const tgr_isa *tgr_best_isa(void)
{
    const tgr_isa *best = isas[0];
    for (int i = 1; i < tgr_isa_count(); i++)
        if (isas[i]->supported()) best = isas[i];
    return best;
}

const tgr_signature *tgr_signature_of(int kernel)
{
    static const tgr_signature signatures[] = {
#define X(name, pointers, sizes, constants) {#name, pointers, sizes, constants},
        TGR_KERNELS(X)
#undef X
    };
    return signatures + kernel;
}

const char *tgr_compiler(void)
{
#if defined(__clang__)
    return "clang " __clang_version__;
#elif defined(__GNUC__)
    return "gcc " __VERSION__;
#else
    return "unknown compiler";
#endif
}

/* The scratch of a thread: the memory, behind a pointer of the thread that can be set without memory. A thread-local array of that
 * size would end the process where there is none: the C library cannot say so to whoever touches it first. */
#if defined(__unix__) || defined(__APPLE__)
static pthread_key_t scratch_key;
static int make_scratch_key(void) { return pthread_key_create(&scratch_key, free) == 0; }
static inline char *scratch_of_thread(void) { return pthread_getspecific(scratch_key); }
static int set_scratch(void *memory) { return pthread_setspecific(scratch_key, memory) == 0; }
#elif defined(_WIN32)
static DWORD scratch_key;
static void WINAPI free_scratch(void *memory) { free(memory); }
static int make_scratch_key(void) { return (scratch_key = FlsAlloc(free_scratch)) != FLS_OUT_OF_INDEXES; }
static inline char *scratch_of_thread(void) { return FlsGetValue(scratch_key); }
static int set_scratch(void *memory) { return FlsSetValue(scratch_key, memory) != 0; }
#else
static _Thread_local void *scratch;
static int make_scratch_key(void) { return 1; }
static inline char *scratch_of_thread(void) { return scratch; }
static int set_scratch(void *memory) { return scratch = memory, 1; }
#endif

static inline char *aligned(char *memory) { return memory + (-(uintptr_t)memory & 63); }

void *tgr_scratch(void) { return aligned(scratch_of_thread()); }

void *tgr_columns(void) { return aligned(scratch_of_thread()) + TGR_SCRATCH_BYTES; }

void *tgr_new_scratch(void) { return malloc(TGR_SCRATCH_BYTES + TGR_COLUMNS_BYTES + 64); }

int tgr_adopt_scratch(void *memory)
{
    if (memory && set_scratch(memory)) return 1;
    free(memory);
    return 0;
}

int tgr_reserve(void) { return scratch_of_thread() || tgr_adopt_scratch(tgr_new_scratch()); }

static tgr_cache_sizes probed;

static void probe_caches(void)
{
    long l1 = 0, l2 = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
    l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE);
    l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
    probed.l1 = l1 > 0 ? l1 : 32 * 1024;
    probed.l2 = l2 > 0 ? l2 : 512 * 1024;
}

tgr_cache_sizes tgr_caches(void) { return probed; }

int tgr_start(void)
{
    probe_caches();
    return make_scratch_key() && tgr_start_threads();
}
