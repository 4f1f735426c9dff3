/* What the processor can do at most, for benchmarks to be compared with. */

/* y() = the sum of as many independent chains of multiply-adds as a tile of the matrix product has, each c[0] steps long and all
 * in registers; that makes 2 TGR_MR TGR_NRV LANES floating-point operations a step. */
TGR_KERNEL(multiply_adds)
{
    enum { CHAINS = TGR_MR * TGR_NRV };
    const ptrdiff_t steps = (ptrdiff_t)c[0];
    const vec factor = (vec){0} + REAL(0.75, 0.75), term = (vec){0} + REAL(0.5, 0.5);
    vec sum[CHAINS], total = {0};
    (void)n;
#pragma GCC unroll 32
    for (int i = 0; i < CHAINS; i++) sum[i] = (vec){0} + (real)(i + 1); /* different, or the compiler merges them */
    for (ptrdiff_t l = 0; l < steps; l++)
#pragma GCC unroll 32
        for (int i = 0; i < CHAINS; i++) sum[i] = sum[i] * factor + term;
    for (int i = 0; i < CHAINS; i++) total += sum[i];
    *(real *)p[0] = total[0];
    return TGR_OK;
}
