#pragma once

#include <array>
#include <span>
#include <vector>

#include "base/sizes.h"
#include "kernels/transpose.h"
#include "ops/op_impl.h"
#include "sepconv/tensor.h"

namespace sepconv {

/// Elements of a value that lies in NHWC, in another order.
class Arrangement {
 public:
  /// From index `first` of each axis on.
  Arrangement(const Shape& of, std::span<const AxisFactor> order,
              const std::array<std::int64_t, 4>& first = {});

  std::int64_t elements() const;
  /// Copies part `part` of `parts` of them to y, one after the other, from a value that begins
  /// at x.
  void copy(const float* x, float* y, std::size_t part = 0, std::size_t parts = 1) const;

 private:
  // So many, `step` floats apart in the value and `to` in the copy.
  struct Factor {
    std::int64_t size, step, to;
  };
  void copy_block(const float* x, std::size_t rows, float* y) const;
  void find_places();

  std::vector<Factor> outer_;            ///< loops over blocks
  Factor along_{1, 0, 0};                ///< the innermost of these loops
  Factor rows_{1, 0, 0}, run_{1, 1, 1};  ///< of a block: the copy's runs, and what is adjacent in
                                         ///< the value, where that is not the same
  std::int64_t first_ = 0;
  std::vector<std::int32_t> places_;  ///< where a short block's elements come from
  const TransposeKernels* kernels_ = &transpose_kernels();
};

/// Copies an image's axes, or factors of them, into another order.
class Arrange final : public Op::Impl {
 public:
  /// `order`: as they follow each other in the result; axes that are missing have size 1.
  Arrange(const Shape& in, const Shape& out, std::span<const AxisFactor> order,
          const std::array<std::int64_t, 4>& first)
      : Impl(in, out, Layout::kNHWC, false), order_(in, order, first) {}

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const>, float* y, std::byte*,
           const ThreadPool& pool) const override {
    const std::size_t parts = to_size(pool.threads());
    pool.parallel_for(parts, [&](std::size_t part) { order_.copy(x, y, part, parts); });
  }
  std::string describe() const override { return "arrange"; }
  double flops() const override { return 0; }

 private:
  Arrangement order_;
};

/// Positions of x and of the sides, one after the other.
class Tokens final : public Op::Impl {
 public:
  /// `tokens`: of each value, the axes or factors of them that make its positions.
  Tokens(std::span<const Shape> from, const Shape& out,
         std::span<const std::vector<AxisFactor>> tokens);

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const> sides, float* y, std::byte* workspace,
           const ThreadPool& pool) const override;
  std::string describe() const override { return "positions of all maps"; }
  double flops() const override { return 0; }

 private:
  struct Part {
    Arrangement order;          ///< of one image
    std::int64_t image, first;  ///< floats of an image, and of the result before the part
  };
  std::vector<Part> parts_;
};

}  // namespace sepconv
