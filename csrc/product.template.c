/* Sums of matrix products, with what goes before and after them:
 *
 *   y(m, n) = activation(base(m, n) + bias(n) + bias2(n) + sum over terms of left(m, k) right(k, n))
 *
 * Paths 1 and 2 sum over k in blocks of `depth`, each from zero and in order, and add the biases last; path 3 sums the lanes of a
 * vector, or four rows, at a time. So equal inputs give equal bits, and within a path a slice of y has the bits of the whole, which
 * is what lets threads share the work; another path (one row instead of many) may differ in the last bits. */

/* left(m, k) right(k, n); `packed`, where not NULL, is `right` as the kernel `pack` lays it out */
typedef struct {
    ptrdiff_t k;
    FN(matrix) left, right;
    const real *packed;
} FN(term);

typedef struct {
    ptrdiff_t m, n;
    real *y, *dy; /* dy, where not NULL, receives activation'; rows of both are ldy apart */
    real *scaled; /* where not NULL, receives y times `times`; rows of both are ldy apart */
    const real *times;
    ptrdiff_t ldy;
    const real *base; /* NULL is 0, y means y += ...; rows are ldbase apart */
    ptrdiff_t ldbase;
    const real *bias, *bias2; /* NULL is 0 */
    tgr_activation activation;
    ptrdiff_t start, width; /* of what rows, and from where on in them, y are columns: the activations of gates differ along a row */
    int count; /* of terms, each with k > 0 */
    FN(term) terms[2];
} FN(product);

/* Depth of a block: a panel of the right operand, depth x NR, takes half of the L1 cache, or two thirds where that leaves less than
 * 256: a tile reads and writes its part of y once for every block. */
static ptrdiff_t FN(block_depth)(void)
{
    const ptrdiff_t depth = tgr_caches().l1 / (NR * (ptrdiff_t)sizeof(real)) / 2 / 8 * 8;
    return depth < 64 ? 64 : depth * 4 / 3 <= 256 ? depth * 4 / 3 : depth < 256 ? 256 : depth > 512 ? 512 : depth;
}

/* Rows of a block, which m is cut into as equally as can be: packed, it takes at most a quarter of the L2 cache and 32 pages of
 * memory, so that the addresses of all stay in the first-level TLB (measured: 3 % more than with as much as the L2 cache holds). */
static ptrdiff_t FN(block_rows)(ptrdiff_t m, ptrdiff_t depth)
{
    const ptrdiff_t pages = 32 * 4096, part = tgr_caches().l2 / 4;
    const ptrdiff_t fits = (part < pages ? part : pages) / (depth * (ptrdiff_t)sizeof(real)), most = fits < 4 * MR ? 4 * MR : fits;
    const ptrdiff_t blocks = (m + most - 1) / most;
    return ((m + blocks - 1) / blocks + MR - 1) / MR * MR;
}

/* row(columns) = bias + bias2 from column j on; returns whether there is any */
INLINE int FN(bias_row)(const FN(product) *p, real *row, ptrdiff_t j, ptrdiff_t columns)
{
    for (ptrdiff_t i = 0; i < columns; i++) row[i] = (p->bias ? p->bias[j + i] : 0) + (p->bias2 ? p->bias2[j + i] : 0);
    return p->bias || p->bias2;
}

/* y(n) = activation(y), dy its derivative, scaled = y times; dy and scaled may be NULL. start and width as activate_part takes them. */
INLINE void FN(finish_run)(tgr_activation activation, ptrdiff_t start, ptrdiff_t width, ptrdiff_t n, real *y, real *dy,
                           real *restrict scaled, const real *restrict times)
{
    if (activation != TGR_IDENTITY || dy) FN(activate_part)(activation, start, width, n, y, dy, y);
    if (scaled)
        for (ptrdiff_t i = 0; i < n; i++) scaled[i] = y[i] * times[i];
}

/* The same for y(rows, columns) from (i, j) on. */
static void FN(finish)(const FN(product) *p, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t columns)
{
    if (p->activation == TGR_IDENTITY && !p->dy && !p->scaled) return;
    if (columns == p->ldy && p->activation != TGR_LSTM_GATES)
        columns *= rows, rows = 1; /* one run: the longer, the more of it is under way at once */
    for (; rows > 0; rows--, i++) {
        const ptrdiff_t at = i * p->ldy + j;
        FN(finish_run)(p->activation, p->start + j, p->width, columns, p->y + at, p->dy ? p->dy + at : NULL,
                       p->scaled ? p->scaled + at : NULL, p->scaled ? p->times + at : NULL);
    }
}

/* ---- path 1: vectors run along the columns of y */

enum { FN(PANELS_TOGETHER) = 8 };

/* A cache block of the right operand, k deep, of which panels are asked for one after another. */
typedef struct {
    const FN(term) *term;
    real *packed;    /* room for the panels that are packed here */
    ptrdiff_t l0, k; /* rows l0 .. l0 + k - 1 of the operand */
    ptrdiff_t j0, j1; /* columns j0 .. j1 - 1 */
    int once;        /* is every panel used just once? then they share their place */
    int streamed;    /* by rows, and beyond the cache: packed some panels at a time, in the order that hardware prefetches */
} FN(right_block);

/* The panel from column j on, packed unless it is there already. One that `left` can pack while its first tile multiplies is left
 * to it: then *unpacked is where it lies. */
static real *FN(panel_of_right)(const FN(right_block) *b, ptrdiff_t j, int there, const FN(left_block) *left, const real **unpacked)
{
    const FN(term) *term = b->term;
    const ptrdiff_t group = FN(PANELS_TOGETHER) * NR, columns = b->j1 - j < NR ? b->j1 - j : NR, whole = (b->j1 - j) / NR * NR;
    real *panel = b->packed + (!b->once ? j - b->j0 : b->streamed ? (j - b->j0) % group : 0) * b->k;
    *unpacked = NULL;
    if (term->packed) return (real *)term->packed + j * term->k + b->l0 * NR;
    if (there) return panel;
    const FN(matrix) right = FN(at)(term->right, b->l0, j);
    if (b->streamed && whole) {
        if ((j - b->j0) % group == 0) FN(pack_panels)(panel, right, b->k, whole < group ? whole : group);
    } else if (right.cs == 1 && whole && left->multiply_and_pack_right)
        *unpacked = right.at;
    else
        FN(pack_panel)(panel, right, b->k, columns);
    return panel;
}

static void FN(product_straight)(const FN(product) *p)
{
    const ptrdiff_t depth = FN(block_depth)(), block = FN(block_rows)(p->m, depth), size = sizeof(real);
    const ptrdiff_t left_size = (block / MR + 1) * FN(left_panel)(depth);
    const ptrdiff_t group = FN(PANELS_TOGETHER) * NR, room = (TGR_SCRATCH_BYTES / size - left_size) / depth / group * group;
    real *packed_left = tgr_scratch();
    for (ptrdiff_t j0 = 0; j0 < p->n; j0 += room)
        for (int t = 0; t < p->count; t++) {
            const FN(term) *term = p->terms + t;
            FN(right_block) right = {.term = term, .packed = packed_left + left_size, .once = p->m <= block, .j0 = j0};
            right.j1 = p->n - j0 < room ? p->n : j0 + room;
            right.streamed = term->right.cs == 1 && (!right.once || term->k * p->n * size > tgr_caches().l2 / 2);
            for (ptrdiff_t l0 = 0; l0 < term->k; l0 += depth) {
                const int first = t == 0 && l0 == 0, last = t == p->count - 1 && term->k - l0 <= depth;
                right.l0 = l0, right.k = term->k - l0 < depth ? term->k - l0 : depth;
                for (ptrdiff_t i = 0; i < p->m; i += block) {
                    const ptrdiff_t rows = p->m - i < block ? p->m - i : block;
                    const int pack = right.j1 - j0 >= 8 * NR && rows > 4 * MR; /* else packing costs more than it gains */
                    const FN(left_block) left = FN(block_of_left)(FN(at)(term->left, i, l0), rows, right.k, pack, packed_left);
                    for (ptrdiff_t j = j0; j < right.j1; j += NR) {
                        const ptrdiff_t columns = right.j1 - j < NR ? right.j1 - j : NR;
                        const real *unpacked, *addend = p->y + i * p->ldy + j;
                        real *panel = FN(panel_of_right)(&right, j, i > 0, &left, &unpacked), *y = p->y + i * p->ldy + j, row[NR];
                        if (first) addend = p->base ? p->base + i * p->ldbase + j : NULL;
                        FN(multiply_panel)(&left, panel, unpacked, term->right.rs, columns, y, p->ldy, addend,
                                           first ? p->ldbase : p->ldy);
                        if (last && FN(bias_row)(p, row, j, columns))
                            for (ptrdiff_t r = 0; r < rows; r++)
                                for (ptrdiff_t q = 0; q < columns; q++) y[r * p->ldy + q] += row[q];
                    }
                    if (last) FN(finish)(p, i, rows, j0, right.j1 - j0);
                }
            }
        }
}

/* ---- path 2: y^T = right^T left^T, for few rows and a right operand stored by columns, such as a weight. Vectors run along
 * the rows of y; the columns of the right operand are the rows of the tiles, and are read once, where they lie. */

enum { FN(TRANSPOSED_BLOCK) = 16 * MR }; /* columns of y that are summed before they are turned */

/* elements of scratch that the path takes */
static ptrdiff_t FN(transposed_size)(const FN(product) *p)
{
    ptrdiff_t k = 0;
    for (int t = 0; t < p->count; t++) k += p->terms[t].k;
    return (FN(TRANSPOSED_BLOCK) + k) * ((p->m + NR - 1) / NR * NR);
}

/* y(rows, columns) from (i, j) on = base + biases + sums(columns, NR)^T */
static void FN(turn)(const FN(product) *p, const real *sums, ptrdiff_t i, ptrdiff_t rows, ptrdiff_t j, ptrdiff_t columns)
{
    for (ptrdiff_t s = 0; s < columns; s += LANES) {
        const ptrdiff_t wide = columns - s < LANES ? columns - s : LANES;
        real row[LANES];
        FN(bias_row)(p, row, j + s, wide);
        for (ptrdiff_t r = 0; r < rows; r += LANES) {
            const ptrdiff_t high = rows - r < LANES ? rows - r : LANES;
            real *y = p->y + (i + r) * p->ldy + j + s;
            const real *base = p->base ? p->base + (i + r) * p->ldbase + j + s : NULL;
            vec v[LANES];
            for (int q = 0; q < LANES; q++) v[q] = LOAD(sums + (s + (q < wide ? q : 0)) * NR + r);
            FN(transpose)(v);
            for (ptrdiff_t h = 0; h < high; h++) {
                if (wide == LANES) {
                    vec sum = v[h] + LOAD(row);
                    if (base) sum += LOAD(base + h * p->ldbase);
                    STORE(y + h * p->ldy, sum);
                } else
                    for (ptrdiff_t q = 0; q < wide; q++)
                        y[h * p->ldy + q] = (v[h][q] + row[q]) + (base ? base[h * p->ldbase + q] : 0);
            }
        }
    }
}

static void FN(product_transposed)(const FN(product) *p)
{
    const ptrdiff_t depth = FN(block_depth)(), high = (p->m + NR - 1) / NR * NR, block = FN(TRANSPOSED_BLOCK);
    real *sums = tgr_scratch(), *packed = sums + block * high, *panel = packed;
    for (int t = 0; t < p->count; t++) {
        const FN(term) *term = p->terms + t;
        for (ptrdiff_t l0 = 0; l0 < term->k; l0 += depth) {
            const ptrdiff_t kc = term->k - l0 < depth ? term->k - l0 : depth;
            for (ptrdiff_t i = 0; i < p->m; i += NR, panel += NR * kc)
                FN(pack_panel)(panel, FN(transposed)(FN(at)(term->left, i, l0)), kc, p->m - i < NR ? p->m - i : NR);
        }
    }
    for (ptrdiff_t j = 0; j < p->n; j += block) {
        const ptrdiff_t nc = p->n - j < block ? p->n - j : block;
        panel = packed;
        for (int t = 0; t < p->count; t++) {
            const FN(term) *term = p->terms + t;
            for (ptrdiff_t l0 = 0; l0 < term->k; l0 += depth) {
                const ptrdiff_t kc = term->k - l0 < depth ? term->k - l0 : depth;
                const FN(matrix) columns = FN(transposed)(FN(at)(term->right, l0, j));
                const FN(left_block) left = FN(block_of_left)(columns, nc, kc, 0, NULL);
                for (ptrdiff_t i = 0; i < p->m; i += NR, panel += NR * kc) {
                    const ptrdiff_t lanes = p->m - i < NR ? (p->m - i + LANES - 1) / LANES * LANES : NR;
                    real *to = sums + i * block;
                    FN(multiply_panel)(&left, panel, NULL, 0, lanes, to, NR, t || l0 ? to : NULL, NR);
                }
            }
        }
        for (ptrdiff_t i = 0; i < p->m; i += NR) FN(turn)(p, sums + i * block, i, p->m - i < NR ? p->m - i : NR, j, nc);
        FN(finish)(p, 0, p->m, j, nc);
    }
}

/* ---- path 3: one row of y, or a few, one by one; nothing is packed */

/* y(n) += x(k) right(k, n), x contiguous, right stored by columns: as many dot products at a time as a vector has lanes */
static void FN(add_dots)(real *restrict y, const real *restrict x, FN(matrix) right, ptrdiff_t n, ptrdiff_t k)
{
    const ptrdiff_t whole = k / LANES * LANES;
    for (ptrdiff_t j = 0; j < n; j += LANES) {
        const ptrdiff_t columns = n - j < LANES ? n - j : LANES;
        const real *at = right.at + j * right.cs;
        vec sum[LANES], total = {0};
        for (int u = 0; u < LANES; u++) sum[u] = (vec){0};
        if (columns == LANES)
            for (ptrdiff_t l = 0; l < whole; l += LANES)
#pragma GCC unroll 16
                for (int u = 0; u < LANES; u++) sum[u] += LOAD(x + l) * LOAD(at + u * right.cs + l);
        else
            for (ptrdiff_t u = 0; u < columns; u++)
                for (ptrdiff_t l = 0; l < whole; l += LANES) sum[u] += LOAD(x + l) * LOAD(at + u * right.cs + l);
        FN(transpose)(sum); /* so that the lanes of each sum are added for all columns at once */
#pragma GCC unroll 16
        for (int u = 0; u < LANES; u++) total += sum[u];
        for (ptrdiff_t u = 0; u < columns; u++) {
            real rest = 0;
            for (ptrdiff_t l = whole; l < k; l++) rest += x[l] * at[u * right.cs + l];
            y[j + u] += total[u] + rest;
        }
    }
}

/* The sum over k of x(k) right(k, vectors LANES), right with row stride rs and `panel` from every NR columns to the next: in
 * registers, of each `ways`-th row one of its own, or there are too few to keep the multipliers busy. total(vectors) */
INLINE void FN(row_sums)(const int vectors, const int ways, vec *total, const real *restrict x, const real *restrict right,
                         ptrdiff_t rs, ptrdiff_t panel, ptrdiff_t k)
{
    vec sum[8];
#define RIGHT_VECTOR(v) LOAD(right + (v) / TGR_NRV * panel + (v) % TGR_NRV * LANES)
#pragma GCC unroll 8
    for (int u = 0; u < vectors * ways; u++) sum[u] = (vec){0};
    ptrdiff_t l = ways;
    for (; l <= k; l += ways, x += ways)
#pragma GCC unroll 8
        for (int w = 0; w < ways; w++, right += rs)
#pragma GCC unroll 8
            for (int v = 0; v < vectors; v++) sum[w * vectors + v] += x[w] * RIGHT_VECTOR(v);
    for (l -= ways; l < k; l++, x++, right += rs)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; v++) sum[v] += *x * RIGHT_VECTOR(v);
#undef RIGHT_VECTOR
#pragma GCC unroll 8
    for (int v = 0; v < vectors; v++) {
        if (ways == 8) total[v] = ((sum[0] + sum[1]) + (sum[2] + sum[3])) + ((sum[4] + sum[5]) + (sum[6] + sum[7]));
        if (ways == 4) total[v] = (sum[v] + sum[vectors + v]) + (sum[2 * vectors + v] + sum[3 * vectors + v]);
        if (ways == 2) total[v] = sum[v] + sum[vectors + v];
        if (ways == 1) total[v] = sum[v];
    }
}

/* y(n) = base(n) + (bias(n) + bias2(n)) + x(k) right(k, n), scaled(n) = y times, x contiguous, right stored by rows or packed; what
 * is NULL is 0 or left out, and base may be y. Where `in_registers` holds for `activation`, y is activation of that sum, and dy its
 * derivative, without a way through memory. */
static void FN(row_times)(const FN(term) *term, ptrdiff_t n, const real *x, real *y, const real *base, const real *bias,
                          const real *bias2, tgr_activation activation, real *dy, real *scaled, const real *times)
{
    const ptrdiff_t k = term->k, rs = term->packed ? NR : term->right.rs, panel = term->packed ? NR * k : NR;
    const real *right = term->packed ? term->packed : term->right.at;
    ptrdiff_t j = 0;
#define FINISHED(v, total) \
    do { \
        vec sum = {0}, biases = {0}; \
        if (base) sum = LOAD(base + j + (v) * LANES); \
        if (bias) biases = LOAD(bias + j + (v) * LANES); \
        if (bias2) biases += LOAD(bias2 + j + (v) * LANES); \
        sum = sum + biases + (total); \
        if (FN(in_registers)(activation)) sum = FN(activated)(sum, dy ? dy + j + (v) * LANES : NULL); \
        STORE(y + j + (v) * LANES, sum); \
        if (scaled) STORE(scaled + j + (v) * LANES, sum * LOAD(times + j + (v) * LANES)); \
    } while (0)
#define SWEEP(vectors, ways) \
    for (; j + vectors * LANES <= n; j += vectors * LANES, right += (vectors + TGR_NRV - 1) / TGR_NRV * panel) { \
        vec total[vectors]; \
        FN(row_sums)(vectors, ways, total, x, right, rs, panel, k); \
        _Pragma("GCC unroll 8") for (int v = 0; v < vectors; v++) FINISHED(v, total[v]); \
    }
    SWEEP(8, 1)
    SWEEP(4, 2)
    SWEEP(2, 4)
    if (j < n) {
        const ptrdiff_t wide = n - j;
        vec total[1];
        if (wide >= LANES) { /* half a panel, and perhaps some more columns */
            FN(row_sums)(1, 8, total, x, right, rs, panel, k);
            FINISHED(0, total[0]);
            j += LANES, right += LANES;
        }
        if (j < n && term->packed) FN(row_sums)(1, 8, total, x, right, rs, panel, k); /* padded with zeros */
        for (ptrdiff_t i = 0; j < n; i++, j++) {
            real sum = (base ? base[j] : 0) + ((bias ? bias[j] : 0) + (bias2 ? bias2[j] : 0)), product = 0;
            if (term->packed)
                product = total[0][i];
            else
                for (ptrdiff_t l = 0; l < k; l++) product += x[l] * right[l * rs + i];
            y[j] = sum + product;
        }
        const ptrdiff_t whole = n / LANES * LANES;
        if (FN(in_registers)(activation)) FN(activate)(activation, n - whole, y + whole, dy ? dy + whole : NULL, y + whole);
        if (scaled)
            for (j = whole; j < n; j++) scaled[j] = y[j] * times[j];
    }
#undef SWEEP
#undef FINISHED
}

static void FN(product_by_rows)(const FN(product) *p)
{
    for (ptrdiff_t i = 0; i < p->m; i++) {
        real *y = p->y + i * p->ldy;
        const real *base = p->base ? p->base + i * p->ldbase : NULL, *bias = p->bias, *bias2 = p->bias2;
        for (int t = 0; t <= p->count; t++) {
            const FN(term) *term = p->terms + t;
            const int by_rows = t < p->count && (term->packed || term->right.cs == 1);
            if (!by_rows && t < p->count + (t == 0) && (base != y || bias || bias2))
                for (ptrdiff_t j = 0; j < p->n; j++) y[j] = (base ? base[j] : 0) + ((bias ? bias[j] : 0) + (bias2 ? bias2[j] : 0));
            if (t == p->count) break;
            const real *x = term->left.at + i * term->left.rs;
            if (by_rows)
                FN(row_times)(term, p->n, x, y, base, bias, bias2, TGR_IDENTITY, NULL, NULL, NULL);
            else
                FN(add_dots)(y, x, term->right, p->n, term->k);
            base = y, bias = bias2 = NULL;
        }
    }
    FN(finish)(p, 0, p->m, 0, p->n);
}

/* ---- the choice, and threads */

typedef struct {
    const FN(product) *product;
    void (*path)(const FN(product) *);
    ptrdiff_t unit; /* slices begin at multiples of it */
    int by_rows;    /* of y, else columns */
} FN(job);

/* One thread's slice of a product. */
static void FN(slice)(const void *context, int part, int parts)
{
    const FN(job) *job = context;
    if (parts == 1) {
        job->path(job->product);
        return;
    }
    FN(product) p = *job->product;
    const ptrdiff_t length = job->by_rows ? p.m : p.n, units = (length + job->unit - 1) / job->unit;
    const ptrdiff_t from = units * part / parts * job->unit, end = units * (part + 1) / parts * job->unit;
    const ptrdiff_t count = (end < length ? end : length) - from, i = job->by_rows ? from : 0, j = job->by_rows ? 0 : from;
    if (count <= 0) return;
    *(job->by_rows ? &p.m : &p.n) = count;
    p.start += j;
    p.y += i * p.ldy + j;
    if (p.dy) p.dy += i * p.ldy + j;
    if (p.scaled) p.scaled += i * p.ldy + j, p.times += i * p.ldy + j;
    if (p.base) p.base += i * p.ldbase + j;
    if (p.bias) p.bias += j;
    if (p.bias2) p.bias2 += j;
    for (int t = 0; t < p.count; t++) {
        p.terms[t].left = FN(at)(p.terms[t].left, i, 0);
        if (p.terms[t].packed)
            p.terms[t].packed += j * p.terms[t].k;
        else
            p.terms[t].right = FN(at)(p.terms[t].right, 0, j);
    }
    job->path(&p);
}

/* Computes the product with as many threads as it is worth; drops its empty terms. */
static void FN(multiply)(FN(product) *p)
{
    FN(job) job = {p, FN(product_straight), NR, p->m > p->n};
    ptrdiff_t k = 0;
    int one_by_one = 1, by_columns = 1, count = 0; /* can path 3 take all terms? is every right operand stored by columns? */
    for (int t = 0; t < p->count; t++)
        if (p->terms[t].k > 0) p->terms[count++] = p->terms[t];
    p->count = count;
    if (p->m <= 0 || p->n <= 0) return;
    for (int t = 0; t < count; t++) {
        const FN(term) *term = p->terms + t;
        k += term->k;
        one_by_one &= (term->left.cs == 1 || term->k == 1) && (term->packed || term->right.cs == 1 || term->right.rs == 1);
        by_columns &= term->right.rs == 1 && term->right.cs != 1 && !term->packed;
    }
    if (count == 0 || (one_by_one && (p->m == 1 || (by_columns && p->m <= 3))))
        job = (FN(job)){p, FN(product_by_rows), 8 * LANES, 0}; /* a multiple of what the loops take at once */
    else if (by_columns && p->m <= 64 && FN(transposed_size)(p) * (ptrdiff_t)sizeof(real) <= TGR_SCRATCH_BYTES)
        job = (FN(job)){p, FN(product_transposed), NR, 0};
    if (p->m * p->n * (k + 1) < 2 * TGR_WORK_PER_THREAD) {
        job.path(p);
        return;
    }
    tgr_parallel(p->m * p->n * (k + 1), ((job.by_rows ? p->m : p->n) + job.unit - 1) / job.unit, FN(slice), &job);
}
