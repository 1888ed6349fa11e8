#pragma once

#include <cstddef>
#include <string>

#include "kernels/gemm.h"
#include "kernels/paired_rows.h"

namespace sepconv {

/// Most triples of one part of a sum: see kGemmPart. Twice as many saved no time, and GoogLeNet's
/// error was over twice ONNX Runtime's now and then. (A third more is one part where L1 has room.)
inline constexpr std::size_t kPairedPart = 48;

/// Some rows of C = A·B by products in pairs; see paired.cc. Of GemmTile all that concerns b, bias,
/// scales, c and what is fetched ahead is used, and `sums`.
struct PairedTile : GemmTile {
  const float* rows;             ///< prepared: the first one's first block of this part
  const float* rest;             ///< its single products behind all triples
  std::size_t block_step;        ///< from block to block
  std::size_t triples, singles;  ///< of this part
  bool pairs;                    ///< or else every product is single
  bool first, last;              ///< whether it is the first and the last part of the sum
  const float* row_start;        ///< as PairedPreparation has it
};

using PairedFunction = void (*)(PairedTile&, std::size_t tiles);

struct PairedKernels {
  std::string describe() const {
    return "gemm " + std::to_string(rows) + "x" + std::to_string(2 * lanes) + " paired";
  }

  std::size_t lanes;
  std::size_t rows, narrow_rows;  ///< of the largest tile, two and one vector wide
  const PairedFunction* tile[2];  ///< tile[v - 1][r - 1]: v vectors of columns, r rows
};

const PairedKernels& paired_kernels();

}  // namespace sepconv
