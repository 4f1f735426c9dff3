/* x86-64 with AVX2 and FMA: 16 registers of 32 bytes; 6 x 2 of them accumulate a tile of the matrix product. */
#include "tgr.h"
#ifdef TGR_HAVE_X86_VARIANTS
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif
#define TGR_FMA 1 /* in one instruction, for vectors too */
#define TGR_ISA avx2
#define TGR_VECTOR_BYTES 32
#define TGR_MR 6
#define TGR_NRV 2
#define TGR_SUPPORTED() (tgr_x86_level() >= 1)
#include "kernels.inc.c"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
