#include <algorithm>
#include <limits>

#include "base/aligned.h"
#include "base/check.h"
#include "base/sizes.h"
#include "kernels/activation_gradient.h"
#include "ops/arguments.h"
#include "ops/pixel_parts.h"
#include "sepconv/gradients.h"

namespace sepconv {

// In parts, each with sums of its own, which are added up in order: some pixels in NHWC, a channel
// of an image in NCHW.
struct ActivationGradient::Impl {
  Shape shape;
  Epilogue activation;
  Layout layout;
  std::size_t images, channels, plane;
  const ActivationGradientKernels* kernels = &activation_gradient_kernels();

  Impl(const Shape& s, const Activation& a, Layout l) : shape(s), activation(a), layout(l) {
    check(s.rank() == 4, "dy: shape is {}, expected [N, C, H, W]", to_string(s));
    images = to_size(s[0]);
    channels = to_size(s[1]);
    plane = to_size(s[2] * s[3]);
  }

  bool activates() const {
    constexpr float kInfinity = std::numeric_limits<float>::infinity();
    return activation.kind != ActivationKind::kNone || activation.lo > -kInfinity ||
           activation.hi < kInfinity;
  }
  std::size_t part_pixels() const {
    return layout == Layout::kNCHW ? plane : pixels_of_part(channels);
  }
  std::size_t parts() const {
    return layout == Layout::kNCHW ? images * channels : divide_up(images * plane, part_pixels());
  }
  // Parts whose sums one channel's is made of.
  std::size_t rows() const { return layout == Layout::kNCHW ? images : parts(); }
  std::size_t workspace_bytes() const { return align_up(rows() * channels * sizeof(float)); }

  void run_part(std::size_t i, const float* z, const float* dy, float* dz, float* sums) const {
    const bool planes = layout == Layout::kNCHW;
    const std::size_t first = i * part_pixels(), at = planes ? first : first * channels;
    const std::size_t left = planes ? plane : images * plane - first;
    const ActivationPixels a{
        activates() ? z + at : nullptr, dy + at,  activates() ? dz + at : nullptr,
        std::min(part_pixels(), left),  channels, activation};
    if (planes) {
      sums[i] = kernels->plane(a);
    } else {
      kernels->pixels(a, sums + i * channels);
    }
  }
};

ActivationGradient::ActivationGradient(const Shape& shape, const Activation& activation,
                                       Layout layout)
    : impl_(std::make_shared<Impl>(shape, activation, layout)) {}

std::size_t ActivationGradient::workspace_bytes(int) const { return impl_->workspace_bytes(); }

void ActivationGradient::run(const TensorView& z, const TensorView& dy, const TensorView& dz,
                             const TensorView& dbias, std::span<std::byte> workspace,
                             const ThreadPool& pool) const {
  const Impl& op = *impl_;
  check_view("dy", dy, op.shape, op.layout);
  check_view("dbias", dbias, {op.shape[1]}, Layout::kNCHW);
  if (op.activates()) {
    check_view("z", z, op.shape, op.layout);
    check_view("dz", dz, op.shape, op.layout);
  }
  check_workspace(workspace, workspace_bytes(pool.threads()));
  Carver carver(workspace.data());
  float* const sums = carver.take<float>(op.rows() * op.channels);
  const float* const in = op.activates() ? z.floats() : nullptr;
  float* const out = op.activates() ? dz.floats() : nullptr;
  pool.parallel_for(op.parts(), [&](std::size_t i) { op.run_part(i, in, dy.floats(), out, sums); });
  for (std::size_t c = 0; c < op.channels; ++c) {
    double sum = 0;
    for (std::size_t i = 0; i < op.rows(); ++i) {
      sum += static_cast<double>(sums[i * op.channels + c]);
    }
    dbias.floats()[c] = static_cast<float>(sum);
  }
}

}  // namespace sepconv
