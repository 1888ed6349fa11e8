// Sums, norms and products of constants: weights that a network standardises whenever it runs
// (Brock et al., "NFNets", 2021), biases that it computes (Liu et al., "Swin V2", 2022).

#include <algorithm>
#include <cmath>
#include <utility>

#include "importer/fold.h"

namespace sepconv::importer {

namespace {

// A second's: a file may not make a program compute for any time.
constexpr std::size_t kMostProducts = std::size_t{1} << 29;

}  // namespace

// ReduceSum, ReduceMean, ReduceProd, ReduceMax and ReduceMin.
OnnxConstant fold_reduce(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims axes = list_of(node, "axes", in, 1);
  const bool none = axes.empty() && integer_of(node, "noop_with_empty_axes", 0) != 0;
  std::vector<bool> reduced(t.dims.size(), axes.empty() && !none);
  for (const std::int64_t a : axes) reduced[axis_of(a, t.dims.size())] = true;
  Dims kept = t.dims, dims;
  for (std::size_t d = 0; d < reduced.size(); ++d) {
    if (reduced[d]) kept[d] = 1;
    if (!reduced[d] || integer_of(node, "keepdims", 1) != 0) dims.push_back(kept[d]);
  }
  const auto step = strides(t.dims), to_step = strides(kept);
  const bool product = node.type == "ReduceProd", most = node.type == "ReduceMax";
  const bool least = node.type == "ReduceMin";
  const double start = most ? -INFINITY : least ? INFINITY : product ? 1 : 0;
  std::vector<double> sums(count_of(kept), start);
  for (std::size_t i = 0; i < t.size(); ++i) {
    std::size_t to = 0;
    for (std::size_t d = 0; d < reduced.size(); ++d) {
      if (!reduced[d]) to += i / step[d] % to_size(t.dims[d]) * to_step[d];
    }
    const double v = at(t, i), so_far = sums[to];
    sums[to] = most      ? std::max(so_far, v)
               : least   ? std::min(so_far, v)
               : product ? so_far * v
                         : so_far + v;
  }
  const double each = static_cast<double>(t.size()) / static_cast<double>(sums.size());
  OnnxTensor y = like(dims, t.integer);
  for (std::size_t i = 0; i < y.size(); ++i) {
    put(y, i, node.type == "ReduceMean" ? sums[i] / each : sums[i]);
  }
  return made(std::move(y));
}

OnnxConstant fold_cumulative_sum(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &t = argument(in, 0), &along = argument(in, 1);
  if (along.size() != 1 || !along.integer || integer_of(node, "exclusive", 0) ||
      integer_of(node, "reverse", 0)) {
    throw Unsupported("backwards, or without each element itself");
  }
  const std::size_t axis = axis_of(along.integers[0], t.dims.size());
  const std::size_t step = strides(t.dims)[axis], size = to_size(t.dims[axis]);
  OnnxTensor y = t;
  for (std::size_t i = 0; i < y.size(); ++i) {
    if (i / step % size > 0) put(y, i, at(y, i - step) + at(t, i));
  }
  return made(std::move(y));
}

// Of matrices by one.
OnnxConstant fold_matmul(const OnnxNode&, const Arguments& in) {
  const OnnxTensor &a = argument(in, 0), &b = argument(in, 1);
  if (a.dims.size() < 2 || b.dims.size() != 2 || a.dims.back() != b.dims[0]) {
    throw Unsupported("of other than a constant and a matrix");
  }
  const std::size_t k = to_size(b.dims[0]), n = to_size(b.dims[1]);
  Dims dims = a.dims;
  dims.back() = b.dims[1];
  OnnxTensor y = like(dims, a.integer && b.integer);
  if (y.size() > kMostProducts / std::max<std::size_t>(k, 1)) {
    throw Unsupported("a product of constants that takes too long");
  }
  for (std::size_t i = 0; i < y.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < k; ++j) sum += at(a, i / n * k + j) * at(b, j * n + i % n);
    put(y, i, sum);
  }
  return made(std::move(y));
}

// Of 1×1 windows: positions that a network computes from coordinates.
OnnxConstant fold_conv(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &x = argument(in, 0), &w = argument(in, 1);
  const Dims strides_of = list_of(node, "strides"), pads = list_of(node, "pads");
  const auto is = [](std::int64_t n) { return [n](std::int64_t v) { return v == n; }; };
  const bool plain = x.dims.size() == 4 && w.dims.size() == 4 && w.dims[1] == x.dims[1] &&
                     w.dims[2] * w.dims[3] == 1 && integer_of(node, "group", 1) == 1 &&
                     std::all_of(strides_of.begin(), strides_of.end(), is(1)) &&
                     std::all_of(pads.begin(), pads.end(), is(0));
  if (!plain || x.integer || w.integer) throw Unsupported("of a constant, but for 1×1 ones");
  const std::size_t k = to_size(w.dims[1]), m = to_size(w.dims[0]), plane = strides(x.dims)[1];
  OnnxTensor y = like({x.dims[0], w.dims[0], x.dims[2], x.dims[3]}, false);
  if (y.size() > kMostProducts / std::max<std::size_t>(k, 1)) {
    throw Unsupported("a product of constants that takes too long");
  }
  const bool biased = in.size() > 2 && in[2];
  if (biased && in[2]->floats.size() != m) throw Unsupported("with a bias of another size");
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t o = i / plane % m, from = i / plane / m * k * plane + i % plane;
    double sum = biased ? at(*in[2], o) : 0;
    for (std::size_t c = 0; c < k; ++c) sum += at(x, from + c * plane) * at(w, o * k + c);
    put(y, i, sum);
  }
  return made(std::move(y));
}

namespace {

// By channel, as (mean, variance).
std::vector<std::pair<double, double>> moments(const OnnxTensor& t, std::size_t channels,
                                               std::size_t inner) {
  std::vector<std::pair<double, double>> all(channels);
  const double count = static_cast<double>(t.size()) / static_cast<double>(channels);
  for (std::size_t i = 0; i < t.size(); ++i) all[i / inner % channels].first += at(t, i) / count;
  for (std::size_t i = 0; i < t.size(); ++i) {
    auto& [mean, variance] = all[i / inner % channels];
    variance += (at(t, i) - mean) * (at(t, i) - mean) / count;
  }
  return all;
}

}  // namespace

OnnxConstant fold_batch_norm(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  if (t.dims.size() < 2 || t.integer) throw Unsupported("of other than [N, C, …]");
  const std::size_t channels = to_size(t.dims[1]), inner = strides(t.dims)[1];
  for (std::size_t i = 1; i < 5; ++i) {
    if (argument(in, i).floats.size() != channels) throw Unsupported("over other channels");
  }
  std::vector<std::pair<double, double>> given;
  for (std::size_t c = 0; c < channels; ++c) given.emplace_back(at(*in[3], c), at(*in[4], c));
  const bool training = integer_of(node, "training_mode", 0) != 0;
  const auto statistics = training ? moments(t, channels, inner) : given;
  const auto epsilon = static_cast<double>(number_of(node, "epsilon", 1e-5F));
  OnnxTensor y = like(t.dims, false);
  for (std::size_t i = 0; i < y.size(); ++i) {
    const std::size_t c = i / inner % channels;
    const auto& [mean, variance] = statistics[c];
    put(y, i, (at(t, i) - mean) / std::sqrt(variance + epsilon) * at(*in[1], c) + at(*in[2], c));
  }
  return made(std::move(y));
}

}  // namespace sepconv::importer
