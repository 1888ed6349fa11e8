#include "base/page_arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <optional>
#include <vector>

#include "base/aligned.h"
#include "base/pages.h"

namespace sepconv {
namespace {

constexpr std::size_t kPieceFloats = 16 * kHugePage / sizeof(float);

bool all_are(float value, const std::shared_ptr<float[]>& array, std::size_t count) {
  return std::all_of(array.get(), array.get() + count, [=](float v) { return v == value; });
}

TEST(PageArena, ArraysAreAlignedZeroedAndApart) {
  PageArena arena;
  std::vector<std::shared_ptr<float[]>> arrays;
  for (std::size_t count = 1; count < 100; ++count) {
    arrays.push_back(arena.take(count));
    EXPECT_TRUE(is_aligned(arrays.back().get()));
    EXPECT_TRUE(all_are(0, arrays.back(), count));
    std::fill_n(arrays.back().get(), count, static_cast<float>(count));
  }
  for (std::size_t count = 1; count < 100; ++count) {
    EXPECT_TRUE(all_are(static_cast<float>(count), arrays[count - 1], count)) << count;
  }
}

TEST(PageArena, ArraysLieSideBySideFromAHugePageOn) {
  PageArena arena;
  const auto a = arena.take(16), b = arena.take(100), c = arena.take(1);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(a.get()) % kHugePage, 0u);
  EXPECT_EQ(b.get(), a.get() + 16);
  EXPECT_EQ(c.get(), b.get() + 112);
}

TEST(PageArena, SmallOnesFillWhatLargeOnesLeave) {
  PageArena arena;
  const auto first = arena.take(kPieceFloats - 32);
  const auto large = arena.take(kPieceFloats + 1);
  const auto small = arena.take(32);
  EXPECT_EQ(small.get(), first.get() + kPieceFloats - 32);
  large.get()[kPieceFloats] = 1;
}

TEST(PageArena, ArraysOutliveIt) {
  std::optional<PageArena> arena(std::in_place);
  const auto a = arena->take(1000), b = arena->take(2 * kPieceFloats);
  arena.reset();
  std::fill_n(a.get(), 1000, 1.0F);
  b.get()[2 * kPieceFloats - 1] = 1;
  EXPECT_TRUE(all_are(1, a, 1000));
}

}  // namespace
}  // namespace sepconv
