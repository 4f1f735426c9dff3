/* What the machine offers: instruction sets, of which the best is chosen once, cache sizes, memory of a thread. */
#include "tgr.h"
#if defined(__unix__) || defined(__APPLE__)
#include <unistd.h>
#endif

static const tgr_isa *const isas[] = {
    &tgr_isa_baseline,
#ifdef TGR_HAVE_X86_VARIANTS
    &tgr_isa_avx2,
    &tgr_isa_avx512,
#endif
};

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

void *tgr_scratch(void)
{
    static _Thread_local _Alignas(64) char scratch[TGR_SCRATCH_BYTES];
    return scratch;
}

void *tgr_columns(void)
{
    static _Thread_local _Alignas(64) char columns[TGR_COLUMNS_BYTES];
    return columns;
}

tgr_cache_sizes tgr_caches(void)
{
    static tgr_cache_sizes probed; /* by whoever loads the library, before there are threads */
    if (!probed.l2) {
        long l1 = 0, l2 = 0;
#ifdef _SC_LEVEL1_DCACHE_SIZE
        l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE);
        l2 = sysconf(_SC_LEVEL2_CACHE_SIZE);
#endif
        probed.l1 = l1 > 0 ? l1 : 32 * 1024;
        probed.l2 = l2 > 0 ? l2 : 512 * 1024;
    }
    return probed;
}
