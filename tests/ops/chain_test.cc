// A chain gives the bits of its ops run one after the other, whatever its bands and threads.

#include "ops/chain.h"

#include <gtest/gtest.h>

#include "base/aligned.h"
#include "ops/arguments.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv {
namespace {

std::shared_ptr<const RowOp> conv(const Shape& x, std::int64_t out, std::int64_t kernel,
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
    const std::int64_t images = 2;
    std::vector<float> x(static_cast<std::size_t>(images * 3 * size * size));
    testing::fill(x.data(), static_cast<std::int64_t>(x.size()), random);

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
    const Chain whole(stages);
    for (int threads : {1, 2, 3}) EXPECT_EQ(run(whole, x, threads, images), values.back());
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, ChainTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

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
