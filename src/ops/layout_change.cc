#include "ops/layout_change.h"

#include <algorithm>

#include "base/sizes.h"

namespace sepconv {

namespace {

// Pixels whose channels are all moved before the next pixels': their lines stay in L2 meanwhile.
constexpr std::size_t kPixels = 256;

}  // namespace

// Calls move(first float of the channels' planes, first float of their pixels, pixels, channels)
// for parts of all, with the floats of a plane.
template <class Move>
void LayoutChange::for_parts(const Shape& shape, const ThreadPool& pool, const Move& move) const {
  const std::size_t channels = to_size(shape[1]), plane = to_size(shape[2] * shape[3]);
  const std::size_t parts = divide_up(plane, kPixels), lanes = kernels_->lanes;
  pool.parallel_for(to_size(shape[0]) * parts, [&](std::size_t i) {
    const std::size_t image = i / parts * channels * plane, p = i % parts * kPixels;
    for (std::size_t c = 0; c < channels; c += lanes) {
      move(image + c * plane + p, image + p * channels + c, std::min(kPixels, plane - p),
           std::min(lanes, channels - c));
    }
  });
}

// Pictures.
void LayoutChange::interleave(const Shape& shape, const float* x, float* y,
                              const ThreadPool& pool) const {
  constexpr std::size_t kPart = 4096;
  const std::size_t plane = to_size(shape[2] * shape[3]), parts = divide_up(plane, kPart);
  pool.parallel_for(to_size(shape[0]) * parts, [&](std::size_t i) {
    const std::size_t first = i % parts * kPart, image = i / parts * 3 * plane;
    const float* const from = x + image + first;
    const float* const planes[3] = {from, from + plane, from + 2 * plane};
    kernels_->interleave3(planes, y + image + 3 * first, std::min(kPart, plane - first));
  });
}

void LayoutChange::to_nhwc(const Shape& shape, const float* x, float* y,
                           const ThreadPool& pool) const {
  if (shape[1] == 3) {
    interleave(shape, x, y, pool);
    return;
  }
  const std::size_t channels = to_size(shape[1]), plane = to_size(shape[2] * shape[3]);
  for_parts(shape, pool, [&](std::size_t from, std::size_t to, std::size_t pixels, std::size_t n) {
    kernels_->to_pixels(plane_pointers(x + from, n, plane).data(), n, pixels, y + to, channels);
  });
}

void LayoutChange::to_nchw(const Shape& shape, const float* x, float* y,
                           const ThreadPool& pool) const {
  const std::size_t channels = to_size(shape[1]), plane = to_size(shape[2] * shape[3]);
  for_parts(shape, pool, [&](std::size_t to, std::size_t from, std::size_t pixels, std::size_t n) {
    kernels_->to_planes(x + from, channels, n, pixels, plane_pointers(y + to, n, plane).data(),
                        false);
  });
}

}  // namespace sepconv
