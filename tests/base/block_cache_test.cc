#include "base/block_cache.h"

#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "base/scratch.h"
#include "sepconv/tensor.h"

namespace sepconv {
namespace {

constexpr std::size_t kMiB = std::size_t{1} << 20;

struct BlockCacheTest : testing::Test {
  void SetUp() override { BlockCache::clear(); }
  void TearDown() override { BlockCache::clear(); }
};

TEST_F(BlockCacheTest, HandsOutAgainWhatWasGivenBack) {
  std::byte* first;
  {
    const Block block = BlockCache::take(4 * kMiB);
    first = block.data();
    EXPECT_GE(block.bytes(), 4 * kMiB);
    block.data()[block.bytes() - 1] = std::byte{1};
    EXPECT_EQ(BlockCache::kept_bytes(), 0u);
  }
  EXPECT_EQ(BlockCache::kept_bytes(), 4 * kMiB);
  const Block again = BlockCache::take(4 * kMiB - 1);
  EXPECT_EQ(again.data(), first);
  EXPECT_EQ(BlockCache::kept_bytes(), 0u);
}

TEST_F(BlockCacheTest, TakesTheSmallestThatFitsAndWastesAQuarterAtMost) {
  std::byte *five, *six;
  {
    const Block a = BlockCache::take(5 * kMiB), b = BlockCache::take(6 * kMiB);
    five = a.data();
    six = b.data();
  }
  {
    const Block fits = BlockCache::take(5 * kMiB - 100), next = BlockCache::take(5 * kMiB);
    EXPECT_EQ(fits.data(), five);
    EXPECT_EQ(next.data(), six);
  }
  const Block small = BlockCache::take(3 * kMiB);
  EXPECT_NE(small.data(), five);
  EXPECT_EQ(BlockCache::kept_bytes(), 5 * kMiB);  // the one given back first had to go
}

TEST_F(BlockCacheTest, HoldsAQuarterMoreThanWasEverUsedAtMost) {
  std::optional<Block> last;
  for (std::size_t i = 2; i < 40; ++i) {
    last.reset();
    last.emplace(BlockCache::take(i * kMiB));
    EXPECT_LE(last->bytes() + BlockCache::kept_bytes(), i * kMiB / 4 * 5) << i;
  }
}

TEST_F(BlockCacheTest, IsForAllThreads) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([t] {
      for (int i = 0; i < 200; ++i) {
        const Block block = BlockCache::take((2 + static_cast<std::size_t>(i % 3)) * kMiB);
        block.data()[0] = static_cast<std::byte>(t);
        std::this_thread::yield();
        ASSERT_EQ(block.data()[0], static_cast<std::byte>(t));
      }
    });
  }
  for (std::thread& t : threads) t.join();
}

TEST_F(BlockCacheTest, KeepsALargeScratchUntilTheCacheIsEmptied) {
  EXPECT_EQ(Scratch(100).get().size(), 100u);
  EXPECT_EQ(BlockCache::kept_bytes(), 0u);
  const std::byte* first = Scratch(4 * kMiB).get().data();
  EXPECT_EQ(BlockCache::kept_bytes(), 4 * kMiB);
  {
    const Scratch again(4 * kMiB);
    EXPECT_EQ(again.get().data(), first);
    EXPECT_EQ(again.get().size(), 4 * kMiB);
  }
  empty_cache();
  EXPECT_EQ(BlockCache::kept_bytes(), 0u);
}

}  // namespace
}  // namespace sepconv
