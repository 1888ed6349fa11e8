#pragma once

#include <span>
#include <vector>

#include "ops/op_impl.h"
#include "sepconv/tensor.h"

namespace sepconv {

/// Elements of a value that lies in NHWC, in another order.
class Arrangement {
 public:
  Arrangement(const Shape& of, std::span<const AxisFactor> order);

  std::int64_t elements() const;
  /// Copies them to y, one after the other, from a value that begins at x.
  void copy(const float* x, float* y) const { copy(x, factors_, y); }

 private:
  // So many, `step` floats apart.
  struct Factor {
    std::int64_t size, step;
  };
  static void copy(const float* x, std::span<const Factor> factors, float* y);

  std::vector<Factor> factors_;
};

/// Copies an image's axes, or factors of them, into another order.
class Arrange final : public Op::Impl {
 public:
  /// `order`: as they follow each other in the result; axes that are missing have size 1.
  Arrange(const Shape& in, const Shape& out, std::span<const AxisFactor> order)
      : Impl(in, out, Layout::kNHWC, false), order_(in, order) {}

  std::size_t workspace_bytes(int) const override { return 0; }
  void run(const float* x, std::span<const float* const>, float* y, std::byte*,
           const ThreadPool&) const override {
    order_.copy(x, y);
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
