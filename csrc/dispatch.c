/* Chooses an instruction set, once, and names what can be chosen. */
#include "tgr.h"

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

const char *tgr_kernel_name(int kernel)
{
    static const char *const names[] = {
#define X(name) #name,
        TGR_KERNELS(X)
#undef X
    };
    return names[kernel];
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
