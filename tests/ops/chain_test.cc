// A chain gives the bits of its ops run one after the other, whatever its bands and threads.

#include "ops/chain.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/aligned.h"
#include "ops/arguments.h"
#include "ops/winograd_rows.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

std::shared_ptr<RowOp> conv(const Shape& x, std::int64_t out, std::int64_t kernel,
                            std::int64_t stride, bool depthwise, std::mt19937& random,
                            bool residual = false) {
  const std::int64_t groups = depthwise ? x[1] : 1;
  const Tensor weight = testing::random_tensor({out, x[1] / groups, kernel, kernel}, random);
  Conv2dOptions o;
  o.stride = stride;
  o.padding = kernel / 2;
  o.activation = ActivationKind::kRelu6;
  o.residual = residual;
  return conv_row_op(conv_arguments(x, weight.view(), {}, o, groups), o);
}

std::vector<float> run(const Chain& chain, const std::vector<float>& x, int threads,
                       std::int64_t images) {
  const ThreadPool pool(threads);
  const ImageShape& o = chain.output();
  std::vector<float> y(static_cast<std::size_t>(images * o.height * o.row_floats()), -1.0F);
  const auto workspace = make_aligned<std::byte>(chain.workspace_bytes(threads));
  chain.run(images, x.data(), {}, y.data(), workspace.get(), pool);
  return y;
}

// The last stage's result; an operand, where there is one, is the first stage's.
std::vector<float> one_by_one(const std::vector<Chain::Stage>& stages, const std::vector<float>& x,
                              std::int64_t images) {
  std::vector<std::vector<float>> values;
  for (const Chain::Stage& s : stages) {
    const auto& in = s.input == Chain::kInput ? x : values[static_cast<std::size_t>(s.input)];
    const int add = s.operand == Chain::kNone ? Chain::kNone : Chain::side(0);
    const Chain single({{s.op, Chain::kInput, add}});
    const float* skip = values.empty() ? x.data() : values[0].data();
    const ImageShape& o = single.output();
    std::vector<float> y(static_cast<std::size_t>(images * o.height * o.row_floats()));
    const auto workspace = make_aligned<std::byte>(single.workspace_bytes(1));
    single.run(images, in.data(), {&skip, 1}, y.data(), workspace.get(), ThreadPool::single());
    values.push_back(std::move(y));
  }
  return values.back();
}

class ChainTest : public testing::EachTarget {};

TEST_P(ChainTest, EqualsItsOpsOneByOne) {
  std::mt19937 random(5);
  for (std::int64_t size : {1, 5, 30}) {
    // stem, inverted residual with its residual, then a strided block.
    const std::int64_t half = (size + 1) / 2, quarter = (half + 1) / 2;
    const Shape image{1, 3, size, size}, mid{1, 16, half, half}, wide{1, 48, half, half};
    const std::vector<Chain::Stage> stages = {
        {conv(image, 16, 3, 2, false, random), Chain::kInput, Chain::kNone},
        {conv(mid, 48, 1, 1, false, random), 0, Chain::kNone},
        {conv(wide, 48, 5, 1, true, random), 1, Chain::kNone},
        {conv(wide, 16, 1, 1, false, random, true), 2, 0},
        {conv(mid, 48, 1, 1, false, random), 3, Chain::kNone},
        {conv(wide, 48, 3, 2, true, random), 4, Chain::kNone},
        {conv({1, 48, quarter, quarter}, 24, 1, 1, false, random), 5, Chain::kNone}};
    for (const std::int64_t images : {1, 2}) {
      std::vector<float> x(static_cast<std::size_t>(images * 3 * size * size));
      testing::fill(x.data(), static_cast<std::int64_t>(x.size()), random);

      const std::vector<float> expected = one_by_one(stages, x, images);
      const Chain whole(stages);
      for (int threads : {1, 2, 3, 7}) EXPECT_EQ(run(whole, x, threads, images), expected);
    }
  }
}

std::shared_ptr<RowOp> winograd(WinogradSize form, std::int64_t size, std::int64_t in,
                                std::int64_t out, std::mt19937& random, std::int64_t dilation = 1) {
  const auto taps = static_cast<std::int64_t>(form.taps);
  const Tensor weight = testing::random_tensor({out, in, taps, taps}, random);
  const Window window{taps, 1, dilation, taps / 2 * dilation};
  return std::make_shared<WinogradRows>(form, ImageShape{size, size, in},
                                        ImageShape{size, size, out}, Window2d{window, window},
                                        LayerWeights(weight.data(), nullptr), Epilogue());
}

// Their rows come in tiles of four or two, wherever a band or a thread's part begins.
TEST_P(ChainTest, EqualsItsOpsOneByOneWithWinogradsAmongThem) {
  std::mt19937 random(6);
  for (std::int64_t size : {5, 22}) {
    const std::int64_t half = (size + 1) / 2;
    const std::vector<Chain::Stage> stages = {
        {winograd({4, 3}, size, 8, 16, random), Chain::kInput},
        {winograd({2, 5}, size, 16, 32, random), 0},
        {conv({1, 32, size, size}, 32, 3, 2, true, random), 1},
        {winograd({2, 3}, half, 32, 16, random), 2},
        {winograd({4, 3}, half, 16, 64, random), 3}};
    for (const std::int64_t images : {1, 3}) {
      std::vector<float> x(static_cast<std::size_t>(images * 8 * size * size));
      testing::fill(x.data(), static_cast<std::int64_t>(x.size()), random);
      for (std::ptrdiff_t length : {5, 3, 1}) {
        const std::vector<Chain::Stage> some(stages.begin(), stages.begin() + length);
        const std::vector<float> expected = one_by_one(some, x, images);
        for (int threads : {1, 2, 3, 7}) EXPECT_EQ(run(Chain(some), x, threads, images), expected);
      }
    }
  }
}

// `images` with `apart` floats behind every pixel of `channels`, or without.
std::vector<float> move_apart(const std::vector<float>& images, std::int64_t channels,
                              std::int64_t apart) {
  std::vector<float> moved;
  for (auto pixel = images.begin(); pixel != images.end(); pixel += channels) {
    moved.insert(moved.end(), pixel, pixel + channels);
    moved.insert(moved.end(), static_cast<std::size_t>(apart), 1e30F);
  }
  return moved;
}

TEST_P(ChainTest, EqualsItsOpsWithPixelsApart) {
  constexpr std::int64_t kApart = 32, kWide = 128;
  for (const std::int64_t size : {1, 9, 21}) {
    const std::int64_t half = (size + 1) / 2;
    const auto stages = [&](bool apart) {
      std::mt19937 random(8);
      const Shape wide{1, kWide, size, size};
      std::vector<std::shared_ptr<RowOp>> ops = {
          conv({1, 24, size, size}, kWide, 1, 1, false, random),
          conv(wide, kWide, 3, 1, true, random), conv(wide, kWide, 5, 2, true, random),
          conv({1, kWide, half, half}, kWide, 7, 1, true, random),
          conv({1, kWide, half, half}, 40, 1, 1, false, random)};
      std::vector<Chain::Stage> list;
      for (const auto& op : ops) {
        EXPECT_TRUE(op->can_read_slice() && op->can_write_slice());
        if (apart) {
          op->read_slice_of(op->input().channels + kApart);
          op->write_slice_of(op->output().channels + kApart);
        }
        list.push_back({op, static_cast<int>(list.size()) - 1});
      }
      return list;
    };
    for (const std::int64_t images : {1, 2}) {
      std::mt19937 random(9);
      std::vector<float> x(static_cast<std::size_t>(images * 24 * size * size));
      testing::fill(x.data(), static_cast<std::int64_t>(x.size()), random);
      const std::vector<float> y = one_by_one(stages(false), x, images);
      const Chain chain(stages(true));
      const std::vector<float> in = move_apart(x, 24, kApart), expected = move_apart(y, 40, kApart);
      for (int threads : {1, 2, 3, 7}) {
        const ThreadPool pool(threads);
        std::vector<float> got(expected.size(), 1e30F);
        const auto workspace = make_aligned<std::byte>(chain.workspace_bytes(threads));
        chain.run(images, in.data(), {}, got.data(), workspace.get(), pool);
        EXPECT_EQ(got, expected);
      }
    }
  }
}

// Runs one share of an op after the other; each changes cache lines of its own, together all.
void expect_own_lines(const RowOp& op, std::mt19937& random) {
  const ImageShape &in = op.input(), &out = op.output();
  const auto x = make_aligned<float>(static_cast<std::size_t>(in.height * in.row_floats()));
  const auto y = make_aligned<float>(static_cast<std::size_t>(out.height * out.row_floats()));
  testing::fill(x.get(), in.height * in.row_floats(), random);
  std::vector<const float*> rows;
  for (std::int64_t r = 0; r < in.height; ++r) rows.push_back(x.get() + r * in.row_floats());
  std::vector<float*> to;
  for (std::int64_t r = 0; r < out.height; ++r) to.push_back(y.get() + r * out.row_floats());
  const auto workspace = make_aligned<std::byte>(op.workspace_bytes(out.height));
  constexpr std::int64_t kLine = 16;
  const std::int64_t lines = out.height * out.row_floats() / kLine;
  std::vector<int> writers(static_cast<std::size_t>(lines), 0);
  ASSERT_GT(op.shares(), 1) << op.describe();
  for (std::int64_t s = 0; s < op.shares(); ++s) {
    std::fill_n(y.get(), out.height * out.row_floats(), 1e30F);
    Part part = op.whole({0, out.height});
    part.shares = {s, s + 1};
    op.run_part(part, {rows.data(), 0}, nullptr, to.data(), workspace.get());
    for (std::int64_t l = 0; l < lines; ++l) {
      const float* line = y.get() + l * kLine;
      const auto written = std::count_if(line, line + kLine, [](float v) { return v != 1e30F; });
      EXPECT_TRUE(written == 0 || written == kLine) << op.describe();
      writers[static_cast<std::size_t>(l)] += written > 0;
    }
  }
  EXPECT_EQ(writers, std::vector<int>(static_cast<std::size_t>(lines), 1)) << op.describe();
}

TEST_P(ChainTest, SharesHaveCacheLinesOfTheirOwn) {
  std::mt19937 random(7);
  expect_own_lines(*conv({1, 24, 5, 6}, 112, 1, 1, false, random), random);
  expect_own_lines(*conv({1, 16, 5, 6}, 96, 3, 2, false, random), random);
  expect_own_lines(*conv({1, 80, 5, 6}, 80, 3, 1, true, random), random);
  expect_own_lines(*conv({1, 48, 9, 6}, 48, 9, 1, true, random), random);
  // 24 floats are no whole cache lines.
  EXPECT_EQ(conv({1, 40, 5, 6}, 72, 1, 1, false, random)->shares(), 1);
  EXPECT_EQ(conv({1, 24, 5, 6}, 24, 3, 1, true, random)->shares(), 1);
}

// All cells of a grid, one after the other.
std::vector<float> run_cells(const RowOp& op, const Grid& grid, const std::vector<float>& x,
                             const std::vector<float>* residual) {
  const ImageShape &in = op.input(), &out = op.output();
  std::vector<float> y(static_cast<std::size_t>(out.height * out.row_floats()), -7.0F);
  const auto workspace = make_aligned<std::byte>(op.workspace_bytes(out.height));
  for (std::int64_t n = 0; n < grid.cells(); ++n) {
    const Part part = grid.cell(n);
    const RowRange needs = op.input_rows(part.rows);
    std::vector<const float*> from, add;
    std::vector<float*> to;
    for (std::int64_t r = needs.begin; r < needs.end; ++r) {
      from.push_back(x.data() + r * in.row_floats());
    }
    for (std::int64_t r = part.rows.begin; r < part.rows.end; ++r) {
      to.push_back(y.data() + r * out.row_floats());
      if (residual) add.push_back(residual->data() + r * out.row_floats());
    }
    op.run_part(part, {from.data(), needs.begin}, residual ? add.data() : nullptr, to.data(),
                workspace.get());
  }
  return y;
}

void expect_cells_give_the_whole(const RowOp& op, bool residual, std::mt19937& random) {
  const ImageShape &in = op.input(), &out = op.output();
  std::vector<float> x(static_cast<std::size_t>(in.height * in.row_floats()));
  std::vector<float> add(static_cast<std::size_t>(out.height * out.row_floats()));
  testing::fill(x.data(), static_cast<std::int64_t>(x.size()), random);
  testing::fill(add.data(), static_cast<std::int64_t>(add.size()), random);
  const std::vector<float>* second = residual ? &add : nullptr;
  const RowRange rows{0, out.height};
  const std::vector<float> expected = run_cells(op, Grid(op, rows, 1, 1), x, second);
  for (const std::int64_t runs : {2, 5, 11, 1000}) {
    for (const std::int64_t shares : {1, 3}) {
      EXPECT_EQ(run_cells(op, Grid(op, rows, runs, shares), x, second), expected)
          << op.describe() << " in " << runs << " by " << shares;
    }
  }
}

// Wherever in a row they begin and end.
TEST_P(ChainTest, CellsGiveTheBitsOfTheWhole) {
  std::mt19937 random(10);
  const Shape image{1, 48, 9, 13};
  expect_cells_give_the_whole(*conv(image, 96, 1, 1, false, random, true), true, random);
  expect_cells_give_the_whole(*conv(image, 40, 1, 2, false, random), false, random);
  expect_cells_give_the_whole(*conv(image, 64, 3, 1, false, random, true), true, random);
  expect_cells_give_the_whole(*conv(image, 32, 5, 2, false, random), false, random);
  expect_cells_give_the_whole(*conv(image, 48, 3, 1, true, random), false, random);
  const Tensor weight = testing::random_tensor({96, 48, 3, 3}, random);
  const ConvRows as_in_networks({9, 13, 48}, {9, 13, 96}, {{3, 1, 1, 1}, {3, 1, 1, 1}}, 1,
                                LayerWeights(weight.data(), nullptr), Epilogue(),
                                ErrorBound::kNetwork);
  expect_cells_give_the_whole(as_in_networks, true, random);
  const ConvRows dilated({9, 13, 48}, {9, 13, 96}, {{3, 1, 6, 6}, {3, 1, 8, 8}}, 1,
                         LayerWeights(weight.data(), nullptr), Epilogue(), ErrorBound::kElement);
  expect_cells_give_the_whole(dilated, true, random);
  for (const WinogradSize form : {WinogradSize{2, 3}, WinogradSize{4, 3}, WinogradSize{2, 5}}) {
    expect_cells_give_the_whole(*winograd(form, 13, 48, 64, random), true, random);
    expect_cells_give_the_whole(*winograd(form, 3, 48, 64, random), false, random);
    expect_cells_give_the_whole(*winograd(form, 19, 48, 64, random, 2), true, random);
  }
}

// A simulation of up to 64 threads: who has how much of the work, by counting.
TEST_P(ChainTest, SharesWorkOutAmongManyThreads) {
  std::mt19937 random(8);
  const auto wide = conv({1, 96, 14, 14}, 576, 1, 1, false, random);
  const auto depthwise = conv({1, 576, 14, 14}, 576, 3, 1, true, random);
  const auto narrow = conv({1, 576, 14, 14}, 96, 1, 1, false, random);
  const auto last = conv({1, 160, 7, 7}, 960, 1, 1, false, random);
  for (const auto& op : {wide, depthwise, narrow, last}) {
    const std::int64_t rows = op->output().height;
    for (const std::int64_t threads : {2, 4, 16, 64}) {
      const Grid grid = Grid::best(*op, {0, rows}, threads);
      EXPECT_LE(grid.cells(), threads);
      const std::int64_t width = op->output().width;
      std::int64_t work = 0;
      for (std::int64_t n = 0; n < grid.cells(); ++n) {
        const Part part = grid.cell(n);
        const std::int64_t missing = part.first_column + width - part.end_column;
        work += (part.rows.size() * width - missing) * part.shares.size();
      }
      EXPECT_EQ(work, rows * width * op->shares());
      const double speedup = 1 / grid.busiest();
      const double least = threads == 2 ? 0.975 : threads == 64 ? 0.5625 : 0.74;
      EXPECT_GT(speedup, least * static_cast<double>(threads))
          << op->describe() << " on " << threads;
    }
  }
  // 14 rows are not enough for 64 threads, and their seams cost a seventh each.
  const Chain block({{wide, Chain::kInput}, {depthwise, 0}, {narrow, 1}});
  EXPECT_TRUE(block.runs_stagewise(64));
  EXPECT_GT(block.speedup(64), 18);
  // By its own rows where two threads' L2 are too small for the maps, else by stages. All weights
  // are read by both.
  EXPECT_GT(block.speedup(2), block.runs_stagewise(2) ? 1.89 : 1.7);
}

INSTANTIATE_TEST_SUITE_P(Targets, ChainTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

TEST(Chain, HasBandsOfWholeTiles) {
  std::mt19937 random(11);
  for (const std::int64_t dilation : {1, 2, 4, 8}) {
    for (const WinogradSize form : {WinogradSize{2, 3}, WinogradSize{4, 3}}) {
      const Chain chain({{winograd(form, 96, 64, 64, random, dilation), Chain::kInput}});
      const std::int64_t tile = static_cast<std::int64_t>(form.outputs) * dilation;
      EXPECT_EQ(chain.band() % tile, 0) << chain.band() << " of " << tile;
    }
  }
}

TEST(Chain, KeepsItsRingsSmall) {
  std::mt19937 random(6);
  const Shape image{1, 24, 112, 112}, wide{1, 144, 112, 112};
  const Chain chain({{conv(image, 144, 1, 1, false, random), Chain::kInput, Chain::kNone},
                     {conv(wide, 144, 3, 1, true, random), 0, Chain::kNone},
                     {conv(wide, 24, 1, 1, false, random), 1, Chain::kNone}});
  const std::size_t whole = 2 * 4 * 144 * 112 * 112;
  EXPECT_LT(chain.ring_bytes(), whole / 8);
  EXPECT_LT(chain.band(), 112);
}

}  // namespace
}  // namespace sepconv
