/* Random numbers that are a function of a key and a position alone, so that they have the same bits in every instruction set, both
 * dtypes and any number of threads. Key and position lie in memory, where a replayed call finds them advanced. */

#define DRAW_BLOCKS 16 /* drawn side by side, in the lanes of vectors */
#define DRAW_WORDS (4 * DRAW_BLOCKS)

/* words(16, 4) = the blocks counter, counter + 1, ... of Philox 4x32-10 (Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as
 * easy as 1, 2, 3", SC 2011). Low words first: its key is {key, key >> 32}, its counter {counter, counter >> 32, 0, 0}. */
INLINE void FN(philox)(uint64_t key, uint64_t counter, uint32_t *restrict words)
{
    for (ptrdiff_t i = 0; i < DRAW_BLOCKS; i++) {
        const uint64_t at = counter + (uint64_t)i;
        uint32_t x0 = (uint32_t)at, x1 = (uint32_t)(at >> 32), x2 = 0, x3 = 0;
        uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
#pragma GCC unroll 10
        for (int round = 0; round < 10; round++) {
            const uint64_t a = UINT64_C(0xD2511F53) * x0, b = UINT64_C(0xCD9E8D57) * x2;
            x0 = (uint32_t)(b >> 32) ^ x1 ^ k0;
            x1 = (uint32_t)b;
            x2 = (uint32_t)(a >> 32) ^ x3 ^ k1;
            x3 = (uint32_t)a;
            k0 += 0x9E3779B9;
            k1 += 0xBB67AE85;
        }
        words[4 * i] = x0;
        words[4 * i + 1] = x1;
        words[4 * i + 2] = x2;
        words[4 * i + 3] = x3;
    }
}

typedef struct {
    real *y, kept;
    ptrdiff_t n;
    uint64_t key, counter;
    uint32_t least;
} FN(mask);

static void FN(keep_mask_part)(const void *context, int part, int parts)
{
    const FN(mask) *m = context;
    const ptrdiff_t draws = (m->n + DRAW_WORDS - 1) / DRAW_WORDS;
    const uint32_t least = m->least;
    const real kept = m->kept;
    for (ptrdiff_t i = draws * part / parts; i < draws * (part + 1) / parts; i++) {
        real *restrict y = m->y + i * DRAW_WORDS;
        const ptrdiff_t rest = m->n - i * DRAW_WORDS, count = rest < DRAW_WORDS ? rest : DRAW_WORDS;
        uint32_t words[DRAW_WORDS];
        FN(philox)(m->key, m->counter + (uint64_t)(i * DRAW_BLOCKS), words);
        for (ptrdiff_t j = 0; j < count; j++) y[j] = words[j] >= least ? kept : 0;
    }
}

/* y(n) = 1 / (1 - c[0]) where the element's random number u >= c[0] 2^32, else 0;  state[1] += the blocks used, n / 4 rounded up
 * p = {y, state}, state two uint64 {key, counter}, c = {the probability of 0}, 0 <= c[0] <= 1. Element i has word i % 4 of block
 * counter + i / 4 of Philox 4x32-10. (Inverted dropout: Srivastava et al. 2014, sec. 10, as PyTorch; at c[0] = 1 all is 0.) */
TGR_KERNEL(keep_mask)
{
    uint64_t *state = p[1];
    const double least = ceil(c[0] * 0x1p32); /* 2^32 is above every number there is */
    const int some = least < 0x1p32;
    const FN(mask) mask = {
        .y = p[0],
        .kept = some ? (real)(1 / (1 - c[0])) : 0,
        .n = n[0],
        .key = state[0],
        .counter = state[1],
        .least = some ? (uint32_t)least : 0,
    };
    tgr_parallel(n[0] * 64, (n[0] + DRAW_WORDS - 1) / DRAW_WORDS, FN(keep_mask_part), &mask);
    state[1] += (uint64_t)(n[0] + 3) / 4;
    return TGR_OK;
}

#undef DRAW_BLOCKS
#undef DRAW_WORDS
