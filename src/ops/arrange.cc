#include "ops/arrange.h"

#include <array>

#include "base/sizes.h"

namespace sepconv {

Arrangement::Arrangement(const Shape& of, std::span<const AxisFactor> order) {
  const auto strides = dense_strides(of, Layout::kNHWC);
  for (const AxisFactor& a : order) factors_.push_back({a.size, a.step * strides[to_size(a.axis)]});
}

std::int64_t Arrangement::elements() const {
  std::int64_t all = 1;
  for (const Factor& f : factors_) all *= f.size;
  return all;
}

void Arrangement::copy(const float* x, std::span<const Factor> factors, float* y) {
  std::array<std::int64_t, Shape::kMaxRank> sizes{}, strides{};
  if (factors.size() > sizes.size()) {
    std::int64_t rest = 1;
    for (const Factor& f : factors.subspan(1)) rest *= f.size;
    for (std::int64_t i = 0; i < factors[0].size; ++i) {
      copy(x + i * factors[0].step, factors.subspan(1), y + i * rest);
    }
    return;
  }
  for (std::size_t i = 0; i < factors.size(); ++i) {
    sizes[i] = factors[i].size;
    strides[i] = factors[i].step;
  }
  const Shape shape(sizes.data(), static_cast<int>(factors.size()));
  sepconv::copy(TensorView(const_cast<float*>(x), shape, strides, DType::kFloat32),
                TensorView(y, shape, Layout::kNCHW));
}

Tokens::Tokens(std::span<const Shape> from, const Shape& out,
               std::span<const std::vector<AxisFactor>> tokens)
    : Impl(from[0], out, Layout::kNHWC, false) {
  std::int64_t first = 0;
  for (std::size_t i = 0; i < from.size(); ++i) {
    std::vector<AxisFactor> order = tokens[i];
    order.push_back({1, out[1]});
    parts_.push_back({Arrangement(from[i], order), from[i].elements() / from[i][0], first});
    first += parts_.back().order.elements();
  }
}

void Tokens::run(const float* x, std::span<const float* const> sides, float* y, std::byte*,
                 const ThreadPool& pool) const {
  const std::size_t parts = parts_.size();
  pool.parallel_for(to_size(output[0]) * parts, [&](std::size_t i) {
    const Part& part = parts_[i % parts];
    const auto image = static_cast<std::int64_t>(i / parts);
    const float* const from = i % parts == 0 ? x : sides[i % parts - 1];
    part.order.copy(from + image * part.image,
                    y + image * output.elements() / output[0] + part.first);
  });
}

}  // namespace sepconv
