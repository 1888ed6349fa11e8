#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/bf16_parts.h"

namespace sepconv {

/// One block of C = A·B on AMX's tiles: one or two tiles of rows by one or two tiles of columns,
/// A and B split into bf16 parts.
struct AmxBlock {
  const std::uint16_t* a;  ///< [steps][part][row][32]
  std::size_t a_tile;      ///< from the first tile of rows to the second
  const std::uint16_t* b;  ///< [steps][part][16][16][2]
  std::size_t b_tile;      ///< from the first tile of columns to the second
  std::size_t steps;       ///< of 32 values of k
  std::size_t rows;        ///< of a tile, as configured
  float* c;                ///< rows `c_step` floats apart, whole tiles
  std::size_t c_step;
  bool onto;               ///< adds to what is in C, instead of to zeros
  const char* ahead;       ///< what will be read later: fetched into L2 meanwhile,
  std::size_t ahead_step;  ///< so many bytes at each step
};

/// What a tile takes, in cycles: to be multiplied by another, in six products of parts; to be
/// split, on either side; and to be finished, where it is one of C.
struct AmxCosts {
  double multiply, split, finish;
};

struct AmxKernels {
  /// Before and after a thread's multiplications: tiles of so many rows.
  void (*configure)(std::size_t rows);
  void (*release)();
  /// [tiles of rows - 1][tiles of columns - 1]
  void (*multiply[2][2])(const AmxBlock&);
  AmxCosts costs;
};

/// Those of this machine, or null where new ops may not use AMX.
const AmxKernels* amx_kernels();

/// Makes others stand for this machine's, until called with null: an emulation, for tests.
void emulate_amx(const AmxKernels* kernels);

}  // namespace sepconv
