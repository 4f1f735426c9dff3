/* x86-64 with AVX-512 F/DQ/BW/VL: 32 registers of 64 bytes; 12 x 2 of them accumulate a tile of the matrix product. */
#include "tgr.h"
#ifdef TGR_HAVE_X86_VARIANTS
#define TGR_AVX512 "avx512f,avx512dq,avx512bw,avx512vl,avx2,fma"
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target(TGR_AVX512))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512bw,avx512vl,avx2,fma,prefer-vector-width=512")
#endif
#include <immintrin.h>
#if defined(_MSC_VER) /* clang-cl: that includes what the command line allows only, and not what the attribute does */
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <avx512fintrin.h>
#include <avx512dqintrin.h>
#endif
#include "tanh_table.h"
#define TGR_FMA 1 /* in one instruction, for vectors too */
#define TGR_ISA avx512
#define TGR_VECTOR_BYTES 64
#define TGR_MR 12
#define TGR_NRV 2
#define TGR_SUPPORTED() (tgr_x86_level() >= 2)
#include "kernels.inc.c"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
