/* float and double from one source: included once with TGR_DOUBLE 0 and once with 1, before the templates.
 * In a template, `real` is the type, FN(name) a private function, M(name) the C library's function of that type. */
#undef real
#undef vec
#undef unaligned_vec
#undef bits
#undef FN
#undef M
#undef REAL
#undef LANES
#undef lane_numbers

#if TGR_DOUBLE
#define real double
#define vec TGR_vec_f64
#define unaligned_vec TGR_unaligned_vec_f64
#define bits uint64_t
#define FN(name) name##_f64
#define M(name) name
#define REAL(single, dbl) (dbl)
#else
#define real float
#define vec TGR_vec_f32
#define unaligned_vec TGR_unaligned_vec_f32
#define bits uint32_t
#define FN(name) name##_f32
#define M(name) name##f
#define REAL(single, dbl) (single##f)
#endif

/* elements in one vector register */
#define LANES ((ptrdiff_t)(TGR_VECTOR_BYTES / sizeof(real)))

#if TGR_DOUBLE
#define lane_numbers TGR_lane_numbers_64
typedef int64_t lane_numbers __attribute__((vector_size(TGR_VECTOR_BYTES)));
#else
#define lane_numbers TGR_lane_numbers_32
typedef int32_t lane_numbers __attribute__((vector_size(TGR_VECTOR_BYTES)));
#endif

typedef real vec __attribute__((vector_size(TGR_VECTOR_BYTES)));
typedef real unaligned_vec __attribute__((vector_size(TGR_VECTOR_BYTES), aligned(sizeof(real)), may_alias));

/* one vector from or to any address */
#undef LOAD
#undef STORE
#define LOAD(at) (*(const unaligned_vec *)(at))
#define STORE(at, value) (*(unaligned_vec *)(at) = (value))

/* whether one instruction looks up a vector of this type in a table of 32 entries */
#undef LOOKS_UP
#define LOOKS_UP (!TGR_DOUBLE && TGR_VECTOR_BYTES == 64)

/* a helper that must merge into its caller, where its constant arguments become constants */
#undef INLINE
#define INLINE static inline __attribute__((always_inline))

/* a function that stays one: neither merged into its callers nor copied for one of them */
#undef APART
#if defined(__clang__)
#define APART __attribute__((noinline))
#else
#define APART __attribute__((noinline, noclone))
#endif

#undef TGR_KERNEL
#define TGR_KERNEL(name) \
    static int FN(name)(void *const *p, const ptrdiff_t *n, const double *c)
