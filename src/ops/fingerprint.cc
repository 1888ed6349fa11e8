#include "kernels/reductions.h"
#include "sepconv/ops.h"

namespace sepconv {

std::uint64_t fingerprint(const float* x, std::size_t n) {
  return reduction_kernels().fingerprint(x, n);
}

}  // namespace sepconv
