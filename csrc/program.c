/* Replays a captured list of calls. */
#include "tgr.h"
#include <time.h>

/* The clock is looked at after each long call, and after some short ones. */
enum { LONG_WORK = 1 << 15, SHORT_CALLS = 32 };

static double seconds_now(void)
{
    struct timespec now;
#if defined(CLOCK_MONOTONIC_COARSE)
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now); /* right to some milliseconds, at a quarter of the price */
#elif defined(CLOCK_MONOTONIC)
    clock_gettime(CLOCK_MONOTONIC, &now);
#else
    timespec_get(&now, TIME_UTC);
#endif
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* Elementary operations of a call, about. */
static double work_of(int kernel, const ptrdiff_t *n, const double *c)
{
    const tgr_signature *signature = tgr_signature_of(kernel);
    const int axes = signature->sizes == TGR_PER_AXIS;
    double work = 1;
#define N(i) ((double)n[i])
    switch (kernel) {
    case TGR_K_matmul: return N(0) * N(1) * N(2) * (N(3) + 1);
    case TGR_K_rnn_cell: return N(0) * N(2) * (N(1) + N(2));
    case TGR_K_rnn_cell_vjp: return 2 * N(0) * N(2) * (N(1) + N(2));
    case TGR_K_conv2d:
    case TGR_K_conv2d_dx:
    case TGR_K_conv2d_dw: return N(0) * N(4) * N(7) * N(8) * (N(1) / N(15) * N(5) * N(6) + 1);
    case TGR_K_max_pool2d:
    case TGR_K_max_pool2d_vjp:
    case TGR_K_avg_pool2d:
    case TGR_K_avg_pool2d_vjp: return N(0) * (N(1) * N(2) + N(3) * N(4) * N(5) * N(6));
    case TGR_K_multiply_adds: return c[0];
    case TGR_K_count_targets:
    case TGR_K_track_moments: return N(0);
    case TGR_K_take:
    case TGR_K_take_add: return N(0) * N(2);
    case TGR_K_nll: case TGR_K_nll_vjp: case TGR_K_cross_entropy_vjp: case TGR_K_batch_norm_vjp:
    case TGR_K_pack: case TGR_K_lstm_gates: case TGR_K_lstm_state: case TGR_K_lstm_state_vjp: case TGR_K_addcmul:
    case TGR_K_addcmul_vjp: case TGR_K_lerp: case TGR_K_lerp_vjp: case TGR_K_select_steps: case TGR_K_mask_steps: /* n = {rows, columns, ...} */
        return N(0) * N(1);
    default: /* all sizes are lengths */
        for (ptrdiff_t i = axes, end = axes ? 1 + n[0] : signature->sizes; i < end; i++) work *= N(i);
        return work;
    }
#undef N
}

int tgr_is_long(int kernel, const ptrdiff_t *n, const double *c) { return !(work_of(kernel, n, c) < LONG_WORK); }

int tgr_replay(const tgr_isa *isa, const tgr_call *calls, ptrdiff_t count, void *const *p, const ptrdiff_t *n, const double *c,
               double seconds, ptrdiff_t *done)
{
    const double end = seconds_now() + seconds;
    int unseen = 0; /* short calls since the last look at the clock */
    for (ptrdiff_t i = 0; i < count; i++) {
        const tgr_call *call = calls + i;
        const int status = isa->kernels[call->dtype][call->kernel](p + call->p_at, n + call->n_at, c + call->c_at);
        if (status != TGR_OK) {
            *done = i;
            return status;
        }
        if (!call->is_long && ++unseen < SHORT_CALLS) continue;
        unseen = 0;
        if (seconds_now() >= end && i + 1 < count) {
            *done = i + 1;
            return TGR_TIME_IS_UP;
        }
    }
    *done = count;
    return TGR_OK;
}
