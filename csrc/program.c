/* Replays a captured list of calls. */
#include "tgr.h"

ptrdiff_t tgr_replay(const tgr_isa *isa, const tgr_call *calls, ptrdiff_t count, void *const *p, const ptrdiff_t *n, const double *c)
{
    for (ptrdiff_t i = 0; i < count; i++) {
        const tgr_call *call = calls + i;
        if (isa->kernels[call->dtype][call->kernel](p + call->p_at, n + call->n_at, c + call->c_at) != TGR_OK) return i;
    }
    return count;
}
