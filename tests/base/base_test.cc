#include <gtest/gtest.h>

#include <atomic>
#include <vector>

#include "base/aligned.h"
#include "base/nearest.h"
#include "sepconv/sepconv.h"

namespace sepconv {
namespace {

TEST(Shape, CountsElementsAndRefusesWhatCannotBe) {
  EXPECT_EQ(Shape({2, 3, 4, 5}).elements(), 120);
  EXPECT_EQ(Shape({2, 0, 4}).elements(), 0);
  EXPECT_EQ(Shape().elements(), 1);
  EXPECT_THROW(Shape({-1}), ArgumentError);
  EXPECT_THROW(Shape({1, 1, 1, 1, 1, 1, 1, 1, 1}), ArgumentError);
  EXPECT_THROW(Shape({std::int64_t{1} << 40, std::int64_t{1} << 40}), ArgumentError);
}

TEST(Tensor, IsAlignedAndZero) {
  for (std::int64_t n : {1, 7, 1000}) {
    const Tensor t(Shape{n});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(t.data()) % 64, 0u);
    for (std::int64_t i = 0; i < n; ++i) EXPECT_EQ(t.data()[i], 0.0F);
  }
}

TEST(TensorView, KnowsItsLayout) {
  Tensor t({2, 3, 4, 5}, Layout::kNHWC);
  EXPECT_TRUE(t.view().is_dense(Layout::kNHWC));
  EXPECT_FALSE(t.view().is_dense(Layout::kNCHW));
  Tensor one({2, 1, 4, 5}, Layout::kNHWC);
  EXPECT_TRUE(one.view().is_dense(Layout::kNCHW));
}

TEST(TensorView, CopiesBetweenLayouts) {
  Tensor a({2, 3, 4, 5}), b({2, 3, 4, 5}, Layout::kNHWC), c({2, 3, 4, 5});
  for (int i = 0; i < 120; ++i) a.data()[i] = static_cast<float>(i);
  copy(a.view(), b.view());
  copy(b.view(), c.view());
  EXPECT_EQ(b.data()[1], 20.0F);
  for (int i = 0; i < 120; ++i) EXPECT_EQ(c.data()[i], static_cast<float>(i));
}

TEST(TensorView, CopiesMoreThanFourDimensions) {
  const Shape shape{2, 3, 2, 2, 3, 2};
  Tensor a(shape), c(shape);
  for (int i = 0; i < 144; ++i) a.data()[i] = static_cast<float>(i);
  std::vector<float> b(144);  // the first dimension innermost
  const TensorView turned(b.data(), shape, {1, 48, 24, 12, 4, 2}, DType::kFloat32);
  copy(a.view(), turned);
  EXPECT_EQ(b[1], 72.0F);
  EXPECT_EQ(b[2], 1.0F);
  copy(turned, c.view());
  for (int i = 0; i < 144; ++i) EXPECT_EQ(c.data()[i], static_cast<float>(i));
}

TEST(ThreadPool, RunsEveryTaskOnce) {
  for (int threads : {1, 2, 5}) {
    const ThreadPool pool(threads);
    std::vector<std::atomic<int>> runs(100);
    pool.parallel_for(runs.size(), [&](std::size_t i) { ++runs[i]; });
    for (const auto& n : runs) EXPECT_EQ(n, 1);
  }
  EXPECT_THROW(ThreadPool(0), ArgumentError);
}

TEST(CpuInfo, ListsUsableTargetsAmongTheBuiltOnes) {
  const CpuInfo info = cpu_info();
  ASSERT_FALSE(info.targets.empty());
  for (const std::string& target : info.targets) {
    EXPECT_NE(std::find(info.built_targets.begin(), info.built_targets.end(), target),
              info.built_targets.end());
    set_target(target);
    EXPECT_EQ(cpu_info().target, target);
  }
  EXPECT_THROW(set_target("AVX9"), ArgumentError);
  set_target("");
}

TEST(CpuInfo, PairsAreAsSetOrAsAtFirst) {
  const bool first = cpu_info().paired_products;
  for (const bool allowed : {false, true}) {
    set_paired_products(allowed);
    EXPECT_EQ(cpu_info().paired_products, allowed);
  }
  set_paired_products(std::nullopt);
  EXPECT_EQ(cpu_info().paired_products, first);
}

TEST(Activation, NamesAndRange) {
  EXPECT_EQ(to_string(Activation::named("gelu_tanh")), "gelu_tanh");
  EXPECT_THROW(Activation::named("swish"), ArgumentError);
  EXPECT_THROW(Activation::clamp(1, 0), ArgumentError);
}

TEST(NearestNames, OrdersByEditDistance) {
  const auto near = nearest_names("relu7", {"gelu", "relu6", "relu"}, 2);
  EXPECT_EQ(near, (std::vector<std::string>{"relu", "relu6"}));
}

TEST(Aligned, ArraysMadeOneAfterTheOtherAreStaggered) {
  const auto line = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % kStagger; };
  const auto a = make_aligned<float>(1 << 18), b = make_aligned<float>(1 << 18);
  EXPECT_EQ(line(a.get()) % kAlignment, 0u);
  EXPECT_EQ(line(b.get()) % kAlignment, 0u);
  EXPECT_NE(line(a.get()), line(b.get()));
}

TEST(Aligned, ResultsBeginThreeLinesFromWhatTheyAreMadeOf) {
  for (std::uintptr_t x : {4096, 4096 + 16, 5000, 4096 + 448}) {
    for (std::uintptr_t room : {8192, 8192 + 16, 12345, 8192 + 500}) {
      const std::size_t skipped = result_offset(room, x);
      EXPECT_LT(skipped, kStagger);
      EXPECT_EQ((room + skipped) % kAlignment, 0u);
      EXPECT_EQ((room + skipped - x / kAlignment * kAlignment) % kStagger, 3 * kAlignment);
    }
  }
}

TEST(Carver, StaggersFromWhereItBegins) {
  const auto memory = make_aligned<std::byte>(1 << 14);
  for (const std::size_t shift : {std::size_t{0}, 3 * kAlignment}) {
    std::byte* begin = memory.get() + shift;
    Carver carver(begin);
    carver.take<float>(100);
    const auto at = [&](std::size_t line) {
      return reinterpret_cast<std::byte*>(carver.take_staggered<float>(512, line)) - begin;
    };
    EXPECT_EQ(at(1), 512 + 64);
    EXPECT_EQ(at(3), 512 + 64 + 2048 + 128);
    EXPECT_EQ(at(9), 10 * 512 + 64);
  }
}

}  // namespace
}  // namespace sepconv
