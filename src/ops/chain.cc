#include "ops/chain.h"

#include <algorithm>
#include <limits>

#include "base/aligned.h"
#include "base/cpu.h"
#include "base/sizes.h"

namespace sepconv {

namespace {

RowRange join(RowRange a, RowRange b) {
  if (a.size() == 0) return b;
  if (b.size() == 0) return a;
  return {std::min(a.begin, b.begin), std::max(a.end, b.end)};
}

// Relative prices of moving a byte: from beyond L2 against within it.
constexpr double kFar = 1.0, kNear = 0.15;
// Price, in bytes, of starting an op on a band.
constexpr double kBandOverhead = 16384;

}  // namespace

Chain::Chain(std::vector<Stage> stages) : stages_(std::move(stages)) {
  ring_rows_.resize(stages_.size());
  const std::int64_t height = std::max<std::int64_t>(output().height, 1);
  cost_ = std::numeric_limits<double>::infinity();
  // Bands of fewer rows than the ops compute at once took up to twice as long: only where no other
  // fits L2, and of whole tiles.
  std::int64_t step = band_step();
  size_rings(std::min(step, height));
  if (ring_bytes() > l2_cache_bytes()) step = stages_.back().op->row_tile();
  std::int64_t best = 1, last = 0;
  for (std::int64_t bands = 1; bands <= height; ++bands) {
    const std::int64_t even = (height + bands - 1) / bands;
    const std::int64_t band = std::min(height, (even + step - 1) / step * step);
    if (band == last) continue;
    last = band;
    const double cost = price(band);
    if (cost < cost_) {
      cost_ = cost;
      best = band;
    }
  }
  band_ = best;
  needs({0, output().height}, whole_);
  flops_ = flops_of(whole_);
  cost_ += flops_ / kFlopsPerByte;
  if (height > 1) {
    std::vector<RowRange> upper, lower;
    const std::int64_t tile = stages_.back().op->row_tile(), half = height / 2 / tile * tile;
    needs({0, half}, upper);
    needs({half, height}, lower);
    seam_flops_ = std::max(0.0, flops_of(upper) + flops_of(lower) - flops_);
  }
  size_rings(band_);
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const std::int64_t rows = i + 1 < stages_.size() ? ring_rows_[i] : band_;
    op_workspace_ = std::max(op_workspace_, stages_[i].op->workspace_bytes(rows));
  }
  thread_bytes_ = own_bytes();
}

// The least band that gives every op whole multiples of the rows that it computes at once.
std::int64_t Chain::band_step() const {
  std::int64_t longest = 12;
  for (const Stage& s : stages_) longest = std::max(longest, s.op->row_multiple());
  std::vector<RowRange> before, after;
  for (std::int64_t band = 1; band < longest; ++band) {
    const std::int64_t middle = output().height / 2;
    needs({0, middle}, before);
    needs({0, middle + band}, after);
    bool all = true;
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      const std::int64_t rows = after[i].end - before[i].end;
      all = all && rows % stages_[i].op->row_multiple() == 0;
    }
    if (all) return band;
  }
  return longest;
}

// Which rows of every stage some rows of the output need, and what else is made with these.
void Chain::needs(RowRange out, std::vector<RowRange>& need) const {
  need.assign(stages_.size(), RowRange{0, 0});
  need.back() = out;
  for (std::size_t i = stages_.size(); i-- > 0;) {
    const Stage& s = stages_[i];
    if (i + 1 < stages_.size()) need[i] = s.op->whole_tiles(need[i]);
    if (s.input >= 0) {
      RowRange& source = need[to_size(s.input)];
      source = join(source, s.op->input_rows(need[i]));
    }
    if (s.operand >= 0) need[to_size(s.operand)] = join(need[to_size(s.operand)], need[i]);
  }
}

// How many rows lie where a stage's rows are found: its ring's, or the whole image's.
std::int64_t Chain::rows_held(std::size_t i, bool whole) const {
  return whole || stages_[i].kept ? stages_[i].op->output().height : ring_rows_[i];
}

// A band that starts afresh needs the most rows; one that continues needs some of these. Looks at
// all bands, or, for an estimate, at every step-th.
void Chain::size_rings(std::int64_t band, std::int64_t step) {
  std::fill(ring_rows_.begin(), ring_rows_.end(), 0);
  if (stages_.size() == 1) return;
  const std::int64_t height = output().height;
  std::vector<RowRange> need;
  for (std::int64_t row = 0; row < height; row += step) {
    needs({row, std::min(row + band, height)}, need);
    for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
      ring_rows_[i] = std::max(ring_rows_[i], need[i].size());
    }
  }
}

// What fits half of L2 stays there; from there to a quarter beyond L2, more and more of it goes out
// and comes back. Weights are read again for every band.
double Chain::price(std::int64_t band) {
  band_ = band;
  // An odd step meets the rows of every phase of a stride.
  constexpr std::int64_t kSamples = 24;
  size_rings(band, output().height / kSamples | 1);
  const double l2 = static_cast<double>(l2_cache_bytes());
  const double bands = static_cast<double>((output().height + band - 1) / band);
  const auto image_bytes = [](const ImageShape& s) {
    return sizeof(float) * static_cast<double>(s.height * s.row_floats());
  };
  double weights = 0, between = 0, out = image_bytes(output());
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    weights += static_cast<double>(stages_[i].op->call_bytes());
    const double bytes = image_bytes(stages_[i].op->output());
    if (i + 1 < stages_.size()) between += 2 * bytes;
    if (stages_[i].kept) out += bytes;
  }
  const double rows_in = static_cast<double>(stages_.front().op->input_rows({0, band}).size());
  const double edge = image_bytes(output()) * static_cast<double>(band) /
                          static_cast<double>(std::max<std::int64_t>(output().height, 1)) +
                      image_bytes(input()) * rows_in / static_cast<double>(input().height);
  const double working = static_cast<double>(ring_bytes()) + edge;
  // Rings of their own for every intermediate, where chains of one op would use the same memory.
  const double beyond = std::max(0.0, static_cast<double>(ring_bytes()) - 1.25 * l2);
  // `bytes` that belong to a set of `resident` bytes which is used again and again.
  const auto moved = [l2](double bytes, double resident) {
    const double outside = std::clamp((resident - 0.5 * l2) / (0.75 * l2), 0.0, 1.0);
    return bytes * (kNear + (kFar - kNear) * outside);
  };
  // A GEMM reads the band's pixels once per panel of weights.
  const double again = edge * bands + (beyond > 0 && bands == 1 ? between : 0);
  return moved(bands * weights, weights) + moved(between, working) + kFar * beyond +
         moved(image_bytes(input()), image_bytes(input())) + moved(out, out) +
         moved(again, working) + bands * kBandOverhead * static_cast<double>(stages_.size());
}

// What it takes to compute these rows of every stage.
double Chain::flops_of(const std::vector<RowRange>& rows) const {
  double sum = 0;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    const RowOp& op = *stages_[i].op;
    const double height = static_cast<double>(std::max<std::int64_t>(op.output().height, 1));
    sum += op.flops() * static_cast<double>(op.whole_tiles(rows[i]).size()) / height;
  }
  return sum;
}

std::size_t Chain::ring_bytes() const {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    if (stages_[i].kept) continue;
    bytes += align_up(sizeof(float) * to_size(ring_rows_[i] * stages_[i].op->output_row_floats()));
  }
  return bytes;
}

double Chain::flops() const {
  double sum = 0;
  for (const Stage& s : stages_) sum += s.op->flops();
  return sum;
}

// Of a thread that runs the chain, or a cell of a stage.
std::size_t Chain::own_bytes() const {
  std::int64_t in = 0, out = band_;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    in = std::max(in, stages_[i].op->input().height);
    out = std::max(out, ring_rows_[i]);
  }
  const std::size_t pointers =
      align_up(sizeof(float*) * stages_.size()) + align_up(sizeof(float*) * to_size(in)) +
      2 * align_up(sizeof(float*) * to_size(out)) + align_up(2 * sizeof(RowRange) * stages_.size());
  const std::size_t bytes = pointers + ring_bytes() + stages_.size() * kStagger + op_workspace_;
  return stagger(std::max(bytes, cell_bytes()), 0);
}

std::size_t Chain::workspace_bytes(int threads) const {
  const std::size_t bytes = thread_bytes_ * to_size(threads);
  if (!runs_stagewise(threads)) return bytes;
  return bytes + align_up(sizeof(float*) * stages_.size()) + bytes_between();
}

void Chain::run_stage(std::size_t i, const Part& part, const Images& images,
                      const Scratch& s) const {
  const Stage& stage = stages_[i];
  const RowRange rows = part.rows;
  // Row r of a source: the input image, an earlier stage's ring, or a side, of which an image of
  // one row is meant for all.
  const auto source_row = [&](int source, std::int64_t r) -> const float* {
    if (source == kInput) return images.x + r * input_row_floats();
    if (source < kNone) {
      const ImageShape shape = stage.op->operand();
      const float* image = images.sides[to_size(side(0) - source)];
      const std::int64_t row = images.index * shape.height + (shape.height > 1 ? r : 0);
      return image + row * shape.row_floats();
    }
    const std::size_t k = to_size(source);
    return s.rings[k] + (r % rows_held(k, s.whole)) * stages_[k].op->output_row_floats();
  };
  const RowRange in = stage.op->input_rows(rows);
  for (std::int64_t r = in.begin; r < in.end; ++r) s.in[r - in.begin] = source_row(stage.input, r);
  const bool last = i + 1 == stages_.size();
  const std::int64_t row_floats = stage.op->output_row_floats();
  for (std::int64_t r = rows.begin; r < rows.end; ++r) {
    s.out[r - rows.begin] =
        last ? images.y + r * row_floats : s.rings[i] + (r % rows_held(i, s.whole)) * row_floats;
    if (stage.operand != kNone) s.add[r - rows.begin] = source_row(stage.operand, r);
  }
  const float* scale = nullptr;
  if (stage.scale != kNone) {
    scale =
        images.sides[to_size(side(0) - stage.scale)] + images.index * stage.op->input().channels;
  }
  const float* const* second = stage.operand == kNone ? nullptr : s.add;
  const float* end = stage.input == kInput ? images.end : nullptr;
  stage.op->run_part(part, {s.in, in.begin, scale, end}, second, s.out, s.op);
}

void Chain::run_rows(const Images& images, RowRange rows, std::byte* workspace) const {
  Carver carver(workspace);
  Scratch s{};
  std::int64_t in_height = 0, out_rows = band_;
  for (std::size_t i = 0; i < stages_.size(); ++i) {
    in_height = std::max(in_height, stages_[i].op->input().height);
    out_rows = std::max(out_rows, ring_rows_[i]);
  }
  s.rings = carver.take<float*>(stages_.size());
  s.in = carver.take<const float*>(to_size(in_height));
  s.add = carver.take<const float*>(to_size(out_rows));
  s.out = carver.take<float*>(to_size(out_rows));
  RowRange* need = carver.take<RowRange>(2 * stages_.size());
  RowRange* made = need + stages_.size();
  for (std::size_t i = 0; i + 1 < stages_.size(); ++i) {
    const std::int64_t floats = ring_rows_[i] * stages_[i].op->output_row_floats();
    s.rings[i] = stages_[i].kept ? images.kept : take_ring(carver, i, floats);
  }
  s.op = carver.rest();

  std::fill(made, made + stages_.size(), RowRange{0, -1});
  for (std::int64_t b = rows.begin; b < rows.end; b += band_) {
    // Backwards: which rows of each stage this band needs, less what is there already.
    std::fill(need, need + stages_.size(), RowRange{0, 0});
    need[stages_.size() - 1] = {b, std::min(b + band_, rows.end)};
    for (std::size_t i = stages_.size(); i-- > 0;) {
      const Stage& stage = stages_[i];
      if (i + 1 < stages_.size()) need[i] = stage.op->whole_tiles(need[i]);
      if (made[i].end >= 0) need[i].begin = std::max(need[i].begin, made[i].end);
      if (need[i].size() == 0) continue;
      if (stage.input >= 0) {
        RowRange& source = need[to_size(stage.input)];
        source = join(source, stage.op->input_rows(need[i]));
      }
      if (stage.operand >= 0) {
        RowRange& source = need[to_size(stage.operand)];
        source = join(source, need[i]);
      }
    }
    for (std::size_t i = 0; i < stages_.size(); ++i) {
      if (need[i].size() == 0) continue;
      run_stage(i, stages_[i].op->whole(need[i]), images, s);
      made[i].end = need[i].end;
    }
  }
}

void Chain::run(std::int64_t images, const float* x, std::span<const float* const> sides, float* y,
                std::byte* workspace, const ThreadPool& pool, float* kept) const {
  const std::int64_t height = output().height, tile = stages_.back().op->row_tile();
  const std::int64_t tiles = (height + tile - 1) / tile, all = images * tiles;
  const std::int64_t in_floats = input().height * input_row_floats();
  const std::int64_t out_floats = height * stages_.back().op->output_row_floats();
  const Stage& before_last = stages_[stages_.size() > 1 ? stages_.size() - 2 : 0];
  const std::int64_t kept_floats = kept ? height * before_last.op->output_row_floats() : 0;
  const std::int64_t parts = std::min<std::int64_t>(pool.threads(), all);
  const float* end =
      comes_from_memory(to_size(images * in_floats)) ? x + images * in_floats : nullptr;
  if (images == 1 && runs_stagewise(pool.threads())) {
    run_stagewise({x, end, sides, 0, y, kept}, workspace, pool);
    return;
  }
  pool.parallel_for(to_size(parts), [&](std::size_t part) {
    const RowRange own = part_of(all, static_cast<std::int64_t>(part), parts);
    for (std::int64_t image = own.begin / tiles; image * tiles < own.end; ++image) {
      const std::int64_t first = std::max<std::int64_t>(0, own.begin - image * tiles);
      const RowRange rows{first * tile, std::min(height, (own.end - image * tiles) * tile)};
      float* whole = kept ? kept + image * kept_floats : nullptr;
      run_rows({x + image * in_floats, end, sides, image, y + image * out_floats, whole}, rows,
               workspace + part * thread_bytes_);
    }
  });
}

}  // namespace sepconv
