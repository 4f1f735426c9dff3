/* The parts that matrix products are made of, after Goto & van de Geijn (2008) and BLIS (Van Zee & van de Geijn 2015): operands
 * packed into panels, and the register-blocked tile that multiplies one panel of each.
 *
 * Panels of the left operand hold up to MR rows, panels of the right one NR columns, both with k outermost, so that a tile
 * reads them in one sweep. */

#define MR TGR_MR            /* rows of a tile */
#define NR (TGR_NRV * LANES) /* columns of a tile */

/* element (i, j) is at[i rs + j cs] */
typedef struct {
    const real *at;
    ptrdiff_t rs, cs;
} FN(matrix);

/* a without its first i rows and j columns */
INLINE FN(matrix) FN(at)(FN(matrix) a, ptrdiff_t i, ptrdiff_t j)
{
    return (FN(matrix)){a.at + i * a.rs + j * a.cs, a.rs, a.cs};
}

INLINE FN(matrix) FN(transposed)(FN(matrix) a) { return (FN(matrix)){a.at, a.cs, a.rs}; }

/* v = v^T, LANES x LANES: swap the off-diagonal blocks of size 1, 2, 4, ... */
INLINE void FN(transpose)(vec v[])
{
#if defined(__clang__)
    for (int i = 0; i < LANES; i++)
        for (int j = i + 1; j < LANES; j++) {
            const real t = v[i][j];
            v[i][j] = v[j][i];
            v[j][i] = t;
        }
#else
    lane_numbers iota;
    for (int i = 0; i < LANES; i++) iota[i] = i;
#pragma GCC unroll 4
    for (int d = 1; d < LANES; d *= 2) {
        const lane_numbers low = iota + (iota & d) / d * ((int)LANES - d), high = low + d;
#pragma GCC unroll 16
        for (int i = 0; i < LANES; i++)
            if (!(i & d)) {
                const vec a = v[i], b = v[i + d];
                v[i] = __builtin_shuffle(a, b, low);
                v[i + d] = __builtin_shuffle(a, b, high);
            }
    }
#endif
}

/* ---- the tile */

/* y(rows, vectors LANES) = addend + left(rows, k) right(k, vectors LANES), addend NULL for 0. left(i, l) is a[i a_step + l] where
 * by_rows, else a[l a_step + i]; right has row stride ldb. Where `packed` is not NULL, right is packed there on the way. */
INLINE void FN(tile_of)(const int rows, const int vectors, const int by_rows, ptrdiff_t k, const real *a, ptrdiff_t a_step,
                        const real *b, ptrdiff_t ldb, real *packed, real *y, ptrdiff_t ldy, const real *addend, ptrdiff_t ldaddend)
{
    vec sum[MR][TGR_NRV];
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++) {
        __builtin_prefetch(y + i * ldy + vectors * LANES - 1);
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) sum[i][j] = (vec){0};
    }
#pragma GCC unroll 4
    for (ptrdiff_t l = 0; l < k; l++) {
        vec right[TGR_NRV];
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            right[j] = LOAD(b + l * ldb + j * LANES);
            if (packed) STORE(packed + l * NR + j * LANES, right[j]);
        }
#pragma GCC unroll 16
        for (int i = 0; i < rows; i++) {
            const real left = by_rows ? a[i * a_step + l] : a[l * a_step + i];
#pragma GCC unroll 4
            for (int j = 0; j < vectors; j++) sum[i][j] += left * right[j];
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < rows; i++)
#pragma GCC unroll 4
        for (int j = 0; j < vectors; j++) {
            if (addend) sum[i][j] += LOAD(addend + i * ldaddend + j * LANES);
            STORE(y + i * ldy + j * LANES, sum[i][j]);
        }
}

/* A tile whose rows and vectors are known at run time only. */
typedef void FN(tile)(ptrdiff_t rows, ptrdiff_t vectors, ptrdiff_t k, const real *a, ptrdiff_t a_step, const real *b,
                      ptrdiff_t ldb, real *packed, real *y, ptrdiff_t ldy, const real *addend, ptrdiff_t ldaddend);

#define TILE_FUNCTION(name, by_rows, a_step_is, ldb_is, packed_is) \
    static void FN(name)(ptrdiff_t rows, ptrdiff_t vectors, ptrdiff_t k, const real *a, ptrdiff_t a_step, const real *b, \
                         ptrdiff_t ldb, real *packed, real *y, ptrdiff_t ldy, const real *addend, ptrdiff_t ldaddend) \
    { \
        (void)a_step, (void)ldb, (void)packed; \
        switch (rows * 4 + vectors) { \
            TILE_CASES(by_rows, a_step_is, ldb_is, packed_is) \
        default: __builtin_unreachable(); \
        } \
    }
#define TILE_CASE(rows, vectors, by_rows, a_step, ldb, packed) \
    case rows * 4 + vectors: FN(tile_of)(rows, vectors, by_rows, k, a, a_step, b, ldb, packed, y, ldy, addend, ldaddend); break;
#define TILE_ROW(rows, ...) TILE_CASE(rows, 1, __VA_ARGS__) TILE_CASE(rows, 2, __VA_ARGS__)
#define TILE_CASES_4(...) TILE_ROW(1, __VA_ARGS__) TILE_ROW(2, __VA_ARGS__) TILE_ROW(3, __VA_ARGS__) TILE_ROW(4, __VA_ARGS__)
#define TILE_CASES_6(...) TILE_CASES_4(__VA_ARGS__) TILE_ROW(5, __VA_ARGS__) TILE_ROW(6, __VA_ARGS__)
#define TILE_CASES_12(...) \
    TILE_CASES_6(__VA_ARGS__) TILE_ROW(7, __VA_ARGS__) TILE_ROW(8, __VA_ARGS__) TILE_ROW(9, __VA_ARGS__) \
    TILE_ROW(10, __VA_ARGS__) TILE_ROW(11, __VA_ARGS__) TILE_ROW(12, __VA_ARGS__)
#define TILE_CASES TGR_PASTE(TILE_CASES_, TGR_MR) /* another MR needs another list */
_Static_assert(TGR_NRV == 2, "TILE_ROW lists one and two vectors");

/*            name                    left by rows, its step, right's row stride, where right is packed */
TILE_FUNCTION(tile_packed, 0, MR, NR, NULL)
TILE_FUNCTION(tile_columns, 0, a_step, NR, NULL)
TILE_FUNCTION(tile_rows, 1, a_step, NR, NULL)
TILE_FUNCTION(tile_rows_packing, 1, a_step, ldb, packed)

/* ---- the left operand */

/* A cache block of the left operand: where its tiles find their rows, and the functions that read them. */
typedef struct {
    FN(tile) *multiply, *multiply_and_pack_right; /* the latter NULL where there is none */
    const real *at;
    int packed;           /* are its panels packed, left_panel(k) apart? */
    ptrdiff_t row_stride; /* else, from one row to the next; may be 0 */
    ptrdiff_t a_step;     /* as tile_of takes it */
    ptrdiff_t m, k, tiles;
} FN(left_block);

/* Tiles are as equal as can be: a rest of one row would leave most of the multipliers idle. */
INLINE ptrdiff_t FN(tile_start)(const FN(left_block) *b, ptrdiff_t tile) { return b->m * tile / b->tiles; }

/* Elements of a packed panel: an odd number of cache lines, so that neighbours do not share cache sets. */
INLINE ptrdiff_t FN(left_panel)(ptrdiff_t k)
{
    return (MR * k * (ptrdiff_t)sizeof(real) / 128 * 128 + 192) / (ptrdiff_t)sizeof(real);
}

/* Where the rows of a tile begin. */
INLINE const real *FN(tile_rows_at)(const FN(left_block) *b, ptrdiff_t tile)
{
    return b->at + (b->packed ? tile * FN(left_panel)(b->k) : FN(tile_start)(b, tile) * b->row_stride);
}

/* packed(tiles)[k][MR] = left(m, k), panels left_panel(k) apart; lanes beside the rows of a panel hold anything. Writes up to two
 * vectors beyond the last panel. */
static void FN(pack_left)(real *packed, FN(matrix) a, const FN(left_block) *b)
{
    enum { PIECES = (MR + LANES - 1) / LANES };
    const ptrdiff_t k = b->k, panel = FN(left_panel)(k);
    if (a.rs == 1) { /* along the rows of memory: that is what hardware prefetches */
        for (ptrdiff_t l = 0; l < k; l++)
            for (ptrdiff_t tile = 0; tile < b->tiles; tile++) {
                const ptrdiff_t i = FN(tile_start)(b, tile);
                const real *from = a.at + i + l * a.cs;
                real *to = packed + tile * panel + l * MR;
                if (i + PIECES * LANES <= b->m)
                    for (int q = 0; q < PIECES; q++) STORE(to + q * LANES, LOAD(from + q * LANES));
                else
                    for (ptrdiff_t r = 0; r < b->m - i && r < MR; r++) to[r] = from[r];
            }
        return;
    }
    for (ptrdiff_t tile = 0; tile < b->tiles; tile++, packed += panel) {
        const ptrdiff_t i = FN(tile_start)(b, tile), rows = FN(tile_start)(b, tile + 1) - i;
        const real *from = a.at + i * a.rs;
        ptrdiff_t l = 0;
        for (; a.cs == 1 && l + LANES <= k; l += LANES) {
            vec v[PIECES][LANES];
            for (int q = 0; q < PIECES; q++) {
                for (int r = 0; r < LANES; r++)
                    v[q][r] = LOAD(from + (q * LANES + r < rows ? q * LANES + r : 0) * a.rs + l);
                FN(transpose)(v[q]);
            }
            for (int r = 0; r < LANES; r++) /* each store spills into the place of the next one */
                for (int q = 0; q < PIECES; q++) STORE(packed + (l + r) * MR + q * LANES, v[q][r]);
        }
        for (; l < k; l++)
            for (ptrdiff_t r = 0; r < rows; r++) packed[l * MR + r] = from[r * a.rs + l * a.cs];
    }
}

/* The block left(m, k), packed into `packed` where asked for, or where its strides leave no other way. */
static FN(left_block) FN(block_of_left)(FN(matrix) a, ptrdiff_t m, ptrdiff_t k, int pack, real *packed)
{
    FN(left_block) b = {.at = a.at, .m = m, .k = k, .tiles = (m + MR - 1) / MR};
    if (pack || (a.cs != 1 && a.rs != 1)) {
        FN(pack_left)(packed, a, &b);
        b.at = packed, b.packed = 1, b.a_step = MR;
        b.multiply = FN(tile_packed);
    } else if (a.cs == 1) {
        b.row_stride = b.a_step = a.rs;
        b.multiply = FN(tile_rows), b.multiply_and_pack_right = FN(tile_rows_packing);
    } else {
        b.row_stride = 1, b.a_step = a.cs;
        b.multiply = FN(tile_columns);
    }
    return b;
}

/* ---- the right operand */

/* packed[k][NR] = right(k, columns), columns <= NR, padded with zero columns */
static void FN(pack_panel)(real *restrict packed, FN(matrix) b, ptrdiff_t k, ptrdiff_t columns)
{
    ptrdiff_t j = 0;
    for (; b.cs == 1 && j + LANES <= columns; j += LANES)
        for (ptrdiff_t l = 0; l < k; l++) STORE(packed + l * NR + j, LOAD(b.at + l * b.rs + j));
    for (; b.rs == 1 && j + LANES <= columns; j += LANES) {
        const real *from = b.at + j * b.cs;
        ptrdiff_t l = 0;
        for (; l + LANES <= k; l += LANES) {
            vec v[LANES];
            for (int i = 0; i < LANES; i++) v[i] = LOAD(from + i * b.cs + l);
            FN(transpose)(v);
            for (int i = 0; i < LANES; i++) STORE(packed + (l + i) * NR + j, v[i]);
        }
        for (; l < k; l++)
            for (int i = 0; i < LANES; i++) packed[l * NR + j + i] = from[i * b.cs + l];
    }
    if (j == NR) return;
    for (ptrdiff_t l = 0; l < k; l++) {
        for (ptrdiff_t i = j; i < columns; i++) packed[l * NR + i] = b.at[l * b.rs + i * b.cs];
        for (ptrdiff_t i = columns; i < NR; i++) packed[l * NR + i] = 0;
    }
}

/* The same for `columns` / NR whole panels at once, each k NR long, along the rows of memory; right stored by rows. */
static void FN(pack_panels)(real *restrict packed, FN(matrix) b, ptrdiff_t k, ptrdiff_t columns)
{
    for (ptrdiff_t l = 0; l < k; l++)
        for (ptrdiff_t j = 0; j < columns; j += NR)
            for (ptrdiff_t i = 0; i < NR; i += LANES) STORE(packed + j * k + l * NR + i, LOAD(b.at + l * b.rs + j + i));
}

/* ---- a panel of the result */

/* y(b->m, columns) = addend + left right, columns <= NR; addend(b->m, columns) has row stride ldaddend, NULL is 0. right(b->k, NR) is in
 * `panel`; where `unpacked` is not NULL, it is there instead, with row stride ldb, and is packed into `panel` on the way. */
static void FN(multiply_panel)(const FN(left_block) *b, real *panel, const real *unpacked, ptrdiff_t ldb, ptrdiff_t columns,
                               real *y, ptrdiff_t ldy, const real *addend, ptrdiff_t ldaddend)
{
    const ptrdiff_t vectors = (columns + LANES - 1) / LANES;
    for (ptrdiff_t tile = 0; tile < b->tiles; tile++) {
        const ptrdiff_t i = FN(tile_start)(b, tile), rows = FN(tile_start)(b, tile + 1) - i;
        const real *left = FN(tile_rows_at)(b, tile), *add = addend ? addend + i * ldaddend : NULL;
        real edge[MR * NR], *to = y + i * ldy;
        ptrdiff_t ldto = ldy, ldadd = ldaddend;
        if (columns < vectors * LANES) { /* nothing beside the columns may be touched */
            if (add)
                for (ptrdiff_t r = 0; r < rows; r++)
                    for (ptrdiff_t j = 0; j < columns; j++) edge[r * NR + j] = add[r * ldadd + j];
            if (add) add = edge, ldadd = NR;
            to = edge, ldto = NR;
        }
        if (unpacked && tile == 0)
            b->multiply_and_pack_right(rows, vectors, b->k, left, b->a_step, unpacked, ldb, panel, to, ldto, add, ldadd);
        else
            b->multiply(rows, vectors, b->k, left, b->a_step, panel, NR, NULL, to, ldto, add, ldadd);
        if (to == edge)
            for (ptrdiff_t r = 0; r < rows; r++)
                for (ptrdiff_t j = 0; j < columns; j++) y[(i + r) * ldy + j] = edge[r * NR + j];
    }
}
