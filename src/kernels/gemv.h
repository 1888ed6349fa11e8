#pragma once

#include <cstddef>

#include "kernels/epilogue.h"

namespace sepconv {

/// One row of C = A·B: a row of A against adjacent packed panels of B, all of whole vectors.
struct GemvPanels {
  const float* a;
  std::size_t k;
  const float* b;            ///< the first panel, as gemm reads it: [k] rows of two vectors
  std::size_t panel_floats;  ///< from one panel to the next
  const float* bias;         ///< by column, padded to whole panels
  const float* residual;     ///< or null
  float* c;
  std::size_t columns;  ///< how many of the panels' columns exist: some of the last panel's
  Epilogue epilogue;
};

using GemvFunction = void (*)(const GemvPanels&);

struct GemvKernels {
  static constexpr std::size_t kMostPanels = 4;
  std::size_t most;  ///< panels at once
  GemvFunction panels[kMostPanels];
};

/// The results have the bits of gemm's.
const GemvKernels& gemv_kernels();

}  // namespace sepconv
