#include "ops/arrange.h"

#include <algorithm>
#include <array>
#include <limits>

#include "base/sizes.h"

namespace sepconv {

namespace {

// Pixels whose channels are all moved before the next pixels', and channels at once.
constexpr std::size_t kPixels = 256, kRows = 64;
// Blocks one after the other, and how long one is that is copied element by element: others are
// copied by functions, of which a call takes as long as some
// dozens of elements.
constexpr std::int64_t kBlocks = 64, kShort = 64;

}  // namespace

Arrangement::Arrangement(const Shape& of, std::span<const AxisFactor> order,
                         const std::array<std::int64_t, 4>& first) {
  const auto strides = dense_strides(of, Layout::kNHWC);
  for (int i = 0; i < of.rank(); ++i) first_ += first[to_size(i)] * strides[to_size(i)];
  std::vector<Factor> all;
  for (const AxisFactor& a : order) {
    if (a.size != 1) all.push_back({a.size, a.step * strides[to_size(a.axis)], 0});
  }
  // Those that go on where the one before has its next element are one.
  for (std::size_t i = 0; i + 1 < all.size();) {
    if (all[i].step != all[i + 1].size * all[i + 1].step) {
      ++i;
      continue;
    }
    all[i + 1].size *= all[i].size;
    all.erase(all.begin() + static_cast<std::ptrdiff_t>(i));
  }
  std::int64_t to = 1;
  for (std::size_t i = all.size(); i-- > 0; to *= all[i].size) all[i].to = to;
  if (!all.empty()) {
    run_ = all.back();
    all.pop_back();
  }
  const auto adjacent = std::find_if(all.begin(), all.end(), [](Factor f) { return f.step == 1; });
  if (run_.step != 1 && adjacent != all.end()) {
    rows_ = *adjacent;
    all.erase(adjacent);
  }
  if (!all.empty()) {
    along_ = all.back();
    all.pop_back();
  }
  outer_ = std::move(all);
  find_places();
}

// Of rows and runs that make one piece of the copy.
void Arrangement::find_places() {
  const std::int64_t size = rows_.size * run_.size;
  if (run_.step == 1 || size > kShort || rows_.size > static_cast<std::int64_t>(kRows)) return;
  if (rows_.size > 1 && rows_.to != run_.size) return;
  for (std::int64_t r = 0; r < rows_.size; ++r) {
    for (std::int64_t i = 0; i < run_.size; ++i) {
      const std::int64_t place = r + i * run_.step;
      if (place > std::numeric_limits<std::int32_t>::max()) return places_.clear();
      places_.push_back(static_cast<std::int32_t>(place));
    }
  }
}

std::int64_t Arrangement::elements() const {
  std::int64_t all = along_.size * rows_.size * run_.size;
  for (const Factor& f : outer_) all *= f.size;
  return all;
}

// Runs of `run_` for `rows` of `rows_`, which are adjacent in the value.
void Arrangement::copy_block(const float* x, std::size_t rows, float* y) const {
  const std::size_t size = to_size(run_.size), to = to_size(rows_.to), lanes = kernels_->lanes;
  if (!places_.empty()) {
    for (std::size_t i = 0; i < places_.size(); ++i) y[i] = x[places_[i]];
  } else if (run_.step == 1) {
    std::copy_n(x, size, y);
  } else if (rows == 1) {
    for (std::int64_t i = 0; i < run_.size; ++i) y[i] = x[i * run_.step];
  } else if (size < lanes) {
    const auto planes = plane_pointers(x, size, to_size(run_.step));
    kernels_->to_pixels(planes.data(), size, rows, y, to);
  } else {
    for (std::size_t p = 0; p < size; p += kPixels) {
      for (std::size_t r = 0; r < rows; r += lanes) {
        const std::size_t some = std::min(lanes, rows - r);
        const auto planes = plane_pointers(y + r * to + p, some, to);
        kernels_->to_planes(x + r + p * to_size(run_.step), to_size(run_.step), some,
                            std::min(kPixels, size - p), planes.data(), false);
      }
    }
  }
}

void Arrangement::copy(const float* x, float* y, std::size_t part, std::size_t parts) const {
  const std::size_t rows = to_size(rows_.size), groups = divide_up(rows, kRows);
  const std::size_t pieces = to_size(divide_up(along_.size, kBlocks));
  std::size_t all = groups * pieces;
  for (const Factor& f : outer_) all *= to_size(f.size);
  for (std::size_t i = all * part / parts; i < all * (part + 1) / parts; ++i) {
    const std::size_t row = i % groups * kRows;
    const auto first = static_cast<std::int64_t>(i / groups % pieces) * kBlocks;
    std::int64_t from = first_ + static_cast<std::int64_t>(row) + first * along_.step;
    std::int64_t to = static_cast<std::int64_t>(row) * rows_.to + first * along_.to;
    auto rest = static_cast<std::int64_t>(i / groups / pieces);
    for (std::size_t f = outer_.size(); f-- > 0; rest /= outer_[f].size) {
      const std::int64_t at = rest % outer_[f].size;
      from += at * outer_[f].step;
      to += at * outer_[f].to;
    }
    const std::int64_t blocks = std::min(kBlocks, along_.size - first);
    for (std::int64_t b = 0; b < blocks; ++b) {
      copy_block(x + from + b * along_.step, std::min(kRows, rows - row), y + to + b * along_.to);
    }
  }
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
