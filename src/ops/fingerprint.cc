#include "kernels/vector_math.h"
#include "sepconv/ops.h"

namespace sepconv {

std::uint64_t fingerprint(const float* x, std::size_t n) {
  return vector_math_kernels().fingerprint(x, n);
}

}  // namespace sepconv
