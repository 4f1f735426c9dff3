/* The whole contract between the C kernels and whoever calls them.
 *
 * A kernel is one function with one signature:
 *
 *     int kernel(void *const *p, const ptrdiff_t *n, const double *c)
 *
 *   p   pointers, outputs first, then inputs, in the order of the kernel's shape comment
 *   n   sizes and strides; strides count elements, never bytes
 *   c   scalar constants
 *
 * It returns a tgr_status. The uniform signature is what lets a captured list of calls be replayed
 * without knowing the kernels. A kernel keeps no state between calls; besides its outputs it writes only
 * the scratch memory of its thread, and it may hand parts of its work to the helper threads of threads.c.
 * Any number of threads may call it at once. Outputs never overlap inputs unless the comment says "in place".
 *
 * A new kernel is one line in TGR_KERNELS and one TGR_KERNEL(name) function in a *.template.c.
 */
#ifndef TGR_H
#define TGR_H

#include <stddef.h>
#include <stdint.h>

#define TGR_MAX_DIMS 64 /* numpy's own limit */

typedef enum {
    TGR_OK = 0,
    TGR_BAD_INDEX = 1, /* an integer index lies outside its axis */
    TGR_NO_MEMORY = 2, /* for the scratch of this thread; nothing was written */
    TGR_TIME_IS_UP = 3, /* a replay came to the end of its time, not of its calls */
} tgr_status;

typedef enum { TGR_F32 = 0, TGR_F64 = 1, TGR_DTYPE_COUNT = 2 } tgr_dtype;

/* X(name, how many pointers, sizes and constants it takes). TGR_PER_AXIS: 1 + 3 n[0] sizes. */
#define TGR_PER_AXIS -1
#define TGR_KERNELS(X) \
    X(neg, 2, 1, 0) X(exp, 2, 1, 0) X(log, 2, 1, 0) X(sqrt, 2, 1, 0) X(relu, 2, 1, 0) X(relu_vjp, 3, 1, 0) \
    X(tanh, 3, 1, 0) X(sigmoid, 3, 1, 0) X(erf, 3, 1, 0) X(gelu, 3, 1, 0) X(gelu_tanh, 3, 1, 0) X(silu, 3, 1, 0) \
    X(softplus, 3, 1, 0) X(elu, 3, 1, 1) X(leaky_relu, 3, 1, 1) X(hardtanh, 3, 1, 2) X(huber, 3, 1, 2) \
    X(scale, 2, 1, 1) X(fill, 1, 1, 1) \
    X(abs, 2, 1, 0) X(square, 2, 1, 0) X(reciprocal, 2, 1, 0) X(rsqrt, 2, 1, 0) X(sign, 2, 1, 0) X(floor, 2, 1, 0) \
    X(ceil, 2, 1, 0) X(exp2, 2, 1, 0) X(expm1, 2, 1, 0) X(sinh, 2, 1, 0) X(cosh, 2, 1, 0) X(log1p, 2, 1, 0) X(log2, 2, 1, 0) \
    X(log10, 2, 1, 0) X(logsigmoid, 2, 1, 0) X(arcsinh, 2, 1, 0) X(arccosh, 2, 1, 0) X(arctanh, 2, 1, 0) X(arcsin, 2, 1, 0) \
    X(arccos, 2, 1, 0) X(arctan, 2, 1, 0) X(softsign, 2, 1, 0) X(sin, 2, 1, 0) X(cos, 2, 1, 0) X(tan, 2, 1, 0) \
    X(log1p_dx, 2, 1, 0) X(arcsin_dx, 2, 1, 0) X(arctan_dx, 2, 1, 0) X(arcsinh_dx, 2, 1, 0) X(arccosh_dx, 2, 1, 0) \
    X(arctanh_dx, 2, 1, 0) X(softsign_dx, 2, 1, 0) X(maximum, 3, TGR_PER_AXIS, 0) X(minimum, 3, TGR_PER_AXIS, 0) \
    X(maximum_da, 3, TGR_PER_AXIS, 0) X(logaddexp, 3, TGR_PER_AXIS, 0) X(logaddexp_da, 3, TGR_PER_AXIS, 0) \
    X(arctan2, 3, TGR_PER_AXIS, 0) X(hypot, 3, TGR_PER_AXIS, 0) X(div_or_zero, 3, TGR_PER_AXIS, 0) \
    X(put_where_not, 3, TGR_PER_AXIS, 0) X(nonzero, 2, 1, 0) X(clip, 2, 1, 2) X(clip_vjp, 3, 1, 2) \
    X(add, 3, TGR_PER_AXIS, 0) X(sub, 3, TGR_PER_AXIS, 0) X(mul, 3, TGR_PER_AXIS, 0) X(div, 3, TGR_PER_AXIS, 0) \
    X(pow, 3, TGR_PER_AXIS, 0) X(pow_dbase, 3, TGR_PER_AXIS, 0) X(pow_dexponent, 3, TGR_PER_AXIS, 0) \
    X(equal, 3, TGR_PER_AXIS, 0) X(copy, 2, TGR_PER_AXIS, 0) X(accumulate, 2, TGR_PER_AXIS, 0) \
    X(matmul, 9, 12, 0) X(pack, 2, 4, 0) X(rnn_cell, 9, 12, 0) X(rnn_cell_vjp, 12, 12, 0) \
    X(lstm_gates, 3, 2, 0) X(lstm_state, 5, 7, 0) X(lstm_state_vjp, 9, 11, 0) X(addcmul, 4, 6, 0) X(addcmul_vjp, 5, 7, 0) \
    X(lerp, 4, 6, 0) X(lerp_vjp, 7, 9, 0) \
    X(select_steps, 4, 5, 1) X(mask_steps, 3, 4, 2) \
    X(conv2d, 4, 16, 0) X(conv2d_dx, 3, 16, 0) X(conv2d_dw, 3, 16, 0) \
    X(max_pool2d, 2, 11, 0) X(max_pool2d_vjp, 3, 11, 0) X(avg_pool2d, 2, 12, 0) X(avg_pool2d_vjp, 2, 12, 0) \
    X(sum, 2, 3, 0) X(max, 2, 3, 0) X(logsumexp, 2, 3, 0) X(softmax, 2, 3, 0) X(log_softmax, 2, 3, 0) \
    X(min, 2, 3, 0) X(prod, 2, 3, 0) X(cumsum, 2, 3, 0) X(cumprod, 2, 3, 0) X(cumprod_vjp, 4, 3, 0) \
    X(nll, 3, 3, 0) X(nll_vjp, 3, 3, 0) X(cross_entropy_vjp, 4, 3, 0) X(count_targets, 2, 2, 0) X(bce_with_logits, 4, 1, 0) \
    X(layer_norm, 6, 2, 1) X(layer_norm_vjp, 8, 2, 0) X(moments, 3, 2, 0) X(batch_norm, 6, 2, 1) X(batch_norm_vjp, 8, 3, 1) \
    X(track_moments, 5, 2, 1) X(take, 3, 3, 0) X(take_add, 3, 3, 0) \
    X(add_norm, 2, 1, 0) X(clip_to_norm, 2, 1, 1) X(clip_to_value, 1, 1, 1) X(sgd, 4, 1, 0) X(adam, 6, 1, 0) X(rmsprop, 6, 1, 0) \
    X(keep_mask, 2, 1, 1) X(multiply_adds, 1, 0, 1)

typedef enum {
#define X(name, ...) TGR_K_##name,
    TGR_KERNELS(X)
#undef X
    TGR_KERNEL_COUNT
} tgr_kernel_id;

/* What may follow a matrix product. */
typedef enum {
    TGR_IDENTITY = 0,
    TGR_TANH = 1,
    TGR_SIGMOID = 2,
    TGR_RELU = 3,
    TGR_LSTM_GATES = 4, /* of the four quarters of a row: sigmoid, sigmoid, tanh, sigmoid */
} tgr_activation;

typedef int (*tgr_kernel)(void *const *p, const ptrdiff_t *n, const double *c);

/* One instruction set: the same sources compiled for it, for both dtypes. */
typedef struct {
    const char *name;
    int vector_bytes;
    int chains; /* vectors that a tile of the matrix product accumulates */
    int panel[TGR_DTYPE_COUNT]; /* columns of a packed panel of a right operand */
    int (*supported)(void); /* does this CPU run it? */
    tgr_kernel kernels[TGR_DTYPE_COUNT][TGR_KERNEL_COUNT];
} tgr_isa;

/* Slowest first; the last supported one is the default. */
extern const tgr_isa tgr_isa_baseline;
/* Not by gcc on Windows, which aligns no stack to vectors of more than 16 bytes (its bug 54412). */
#if defined(__x86_64__) && (defined(__clang__) || (defined(__GNUC__) && !defined(_WIN32)))
#define TGR_HAVE_X86_VARIANTS 1
extern const tgr_isa tgr_isa_avx2;
extern const tgr_isa tgr_isa_avx512;
/* What this CPU and its system run: 2 with AVX-512 F/DQ/BW/VL, 1 with AVX2 and FMA, else 0. */
int tgr_x86_level(void);
#endif

/* What a call of a kernel consists of: the lengths of p, n and c. */
typedef struct {
    const char *name;
    int pointers, sizes, constants;
} tgr_signature;
const tgr_signature *tgr_signature_of(int kernel);

/* A captured list of calls: call i is that of `kernel` on p + p_at, n + n_at and c + c_at. */
typedef struct {
    int16_t kernel;
    int8_t dtype, is_long; /* is_long: does it take long enough for a look at the clock? see tgr_is_long */
    int64_t p_at, n_at, c_at;
} tgr_call;

/* Whether a call takes some microseconds or more, by an estimate of its elementary operations. */
int tgr_is_long(int kernel, const ptrdiff_t *n, const double *c);

/* Runs `count` calls, in order, until one fails or, seen between calls, about `seconds` have passed. Returns the status of the last
 * one, or TGR_TIME_IS_UP; *done is how many succeeded. */
int tgr_replay(const tgr_isa *isa, const tgr_call *calls, ptrdiff_t count, void *const *p, const ptrdiff_t *n, const double *c,
               double seconds, ptrdiff_t *done);

/* To be called once, before there are threads and before anything else here. Returns 0 where the system refuses. */
int tgr_start(void);

int tgr_isa_count(void);
const tgr_isa *tgr_isa_at(int i);
const tgr_isa *tgr_best_isa(void);
const char *tgr_compiler(void);

/* Sizes in bytes of the data caches of one core, probed by tgr_start; a common size where the system does not say. */
typedef struct {
    ptrdiff_t l1, l2;
} tgr_cache_sizes;
tgr_cache_sizes tgr_caches(void);

/* Threads. A kernel with much to do calls tgr_parallel, which calls part(context, i, parts) once for every i in 0..parts - 1, in
 * the caller's thread and those of helpers, and returns when all are done. `work` counts elementary operations, multiply-adds for
 * instance: a thread takes part only where there are TGR_WORK_PER_THREAD for each. parts <= `most`. */
#define TGR_WORK_PER_THREAD 1000000
typedef void (*tgr_part)(const void *context, int part, int parts);
void tgr_parallel(ptrdiff_t work, ptrdiff_t most, tgr_part part, const void *context);
int tgr_threads(void); /* the most that work on one kernel; 1 until it is set */
void tgr_set_threads(int n);
int tgr_threads_running(void); /* those inside a part now */
int tgr_start_threads(void); /* part of tgr_start */

/* Scratch memory of a thread. A kernel that needs it begins with tgr_reserve(), which sees to it that the calling thread has it and
 * returns 0 where there is no memory: then the kernel returns TGR_NO_MEMORY. A helper has it from its start. It is freed when the
 * thread ends; its contents mean nothing between calls. */
int tgr_reserve(void);

/* For packed panels, 64-byte aligned, TGR_SCRATCH_BYTES long. */
#define TGR_SCRATCH_BYTES (1536 * 1024)
void *tgr_scratch(void);

/* The same for blocks of unfolded inputs of convolutions, which are operands of products and so need a place of their own. */
#define TGR_COLUMNS_BYTES (256 * 1024)
void *tgr_columns(void);

/* For the start of a helper: memory for a thread, NULL where there is none, and its hand-over to the calling thread, which frees it
 * and returns 0 where that fails. What was not handed over is freed by free(). */
void *tgr_new_scratch(void);
int tgr_adopt_scratch(void *memory);

#endif
