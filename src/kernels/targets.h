#pragma once

// Which instruction sets the kernels are compiled for. Included before hwy/highway.h by every
// kernel file. AVX3_DL brings nothing to float32 and SSSE3 cores are older than this library's
// users, so they only cost build time; SCALAR is the floor that any core can run.
#define HWY_COMPILE_ALL_ATTAINABLE
#if defined(__x86_64__)
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_AVX3_DL)
#elif defined(__aarch64__)
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#endif
