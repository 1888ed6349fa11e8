#include "kernels/amx.h"

#include <atomic>

#include "base/cpu.h"
#include "kernels/amx-inl.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sepconv {

namespace {

#if defined(__x86_64__)
// What LDTILECFG reads.
struct alignas(64) TileConfiguration {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// As assembly: the compiler's functions for these take the tile's number as a literal only, which a
// template's argument is not.
struct ProcessorTiles {
  static void configure(std::size_t rows) {
    TileConfiguration c;
    for (int tile = 0; tile < 8; ++tile) {
      c.row_bytes[tile] = 64;
      c.rows[tile] = tile < 6 ? static_cast<std::uint8_t>(rows) : kAmxDepth / 2;
    }
    asm volatile("ldtilecfg %0" : : "m"(c));
  }
  static void release() { asm volatile("tilerelease"); }

  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" : : "i"(kTile));
  }
  template <int kTile>
  static void load(const void* from, std::size_t step) {
    asm volatile("tileloadd (%0,%1), %%tmm%c2" : : "r"(from), "r"(step), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void store(void* to, std::size_t step) {
    asm volatile("tilestored %%tmm%c2, (%0,%1)" : : "r"(to), "r"(step), "i"(kTile) : "memory");
  }
  template <int kC, int kA, int kB>
  static void multiply_add() {
    asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(kB), "i"(kA), "i"(kC));
  }
};

// Products take 96 cycles; a prototype on Granite Rapids took 147 with all else included. What is
// not tiles was measured on Zen 5.
constexpr AmxKernels kProcessor =
    amx_kernels_on<ProcessorTiles>({.multiply = 130, .split = 120, .finish = 80});
#endif

std::atomic<const AmxKernels*> emulated = nullptr;

}  // namespace

const AmxKernels* amx_kernels() {
  if (const AmxKernels* kernels = emulated.load(std::memory_order_relaxed)) return kernels;
#if defined(__x86_64__)
  if (amx_usable()) return &kProcessor;
#endif
  return nullptr;
}

void emulate_amx(const AmxKernels* kernels) { emulated = kernels; }

}  // namespace sepconv
