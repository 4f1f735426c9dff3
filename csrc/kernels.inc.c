/* Every kernel, for float and for double, for the instruction set that the including file chose. */
#include <math.h>
#include <string.h>
#include "tgr.h"

#define TGR_PASTE2(a, b) a##b
#define TGR_PASTE(a, b) TGR_PASTE2(a, b)
#define TGR_STRING2(a) #a
#define TGR_STRING(a) TGR_STRING2(a)

/* the iterations of the next loop do not depend on each other, even where its output is its input */
#if defined(__clang__)
#define TGR_INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#else
#define TGR_INDEPENDENT _Pragma("GCC ivdep")
#endif

#define TGR_DOUBLE 0
#include "templates.inc.c"
#undef TGR_DOUBLE
#define TGR_DOUBLE 1
#include "templates.inc.c"
#undef TGR_DOUBLE

static int supported(void) { return TGR_SUPPORTED(); }

const tgr_isa TGR_PASTE(tgr_isa_, TGR_ISA) = {
    .name = TGR_STRING(TGR_ISA),
    .vector_bytes = TGR_VECTOR_BYTES,
    .chains = TGR_MR * TGR_NRV,
    .panel = {TGR_NRV * TGR_VECTOR_BYTES / sizeof(float), TGR_NRV * TGR_VECTOR_BYTES / sizeof(double)},
    .supported = supported,
    .kernels = {
        {
#define X(name, ...) [TGR_K_##name] = name##_f32,
            TGR_KERNELS(X)
#undef X
        },
        {
#define X(name, ...) [TGR_K_##name] = name##_f64,
            TGR_KERNELS(X)
#undef X
        },
    },
};
