/* The instruction set every machine of the target has: SSE2 on x86-64, whatever the compiler assumes elsewhere. */
#ifdef __ARM_FEATURE_FMA
#define TGR_FMA 1
#else
#define TGR_FMA 0
#endif
#define TGR_ISA baseline
#define TGR_VECTOR_BYTES 16
#define TGR_MR 4
#define TGR_NRV 2
#define TGR_SUPPORTED() 1
#include "kernels.inc.c"
