// Splitting floats for AMX, on every target.

#include "kernels/bf16_parts.h"

#include <gtest/gtest.h>

#include <bit>
#include <random>
#include <vector>

#include "base/aligned.h"
#include "support/targets.h"

namespace sepconv {
namespace {

float value(std::uint16_t bf16) { return std::bit_cast<float>(std::uint32_t{bf16} << 16); }

class Bf16PartsTest : public testing::EachTarget {};

TEST_P(Bf16PartsTest, RowsAreTheExactSumsOfTheirParts) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  constexpr std::size_t kRows = 3, kTileRows = 5, kCount = 201, kSteps = 7;
  std::vector<std::vector<float>> rows(kRows, std::vector<float>(kCount));
  const float* pointers[kRows];
  for (std::size_t i = 0; i < kRows; ++i) {
    for (float& v : rows[i]) v = normal(random) * std::exp2(static_cast<float>(i) * 20);
    pointers[i] = rows[i].data();
  }
  const auto parts = make_aligned<std::uint16_t>(kSteps * kBf16Parts * kTileRows * kAmxDepth);
  std::uint32_t largest[kRows] = {};
  bf16_parts_kernels().split_rows({pointers, kRows, kCount, parts.get(), kTileRows, largest});
  for (std::size_t i = 0; i < kRows; ++i) {
    float most = 0;
    for (std::size_t k = 0; k < kSteps * kAmxDepth; ++k) {
      double sum = 0;
      for (std::size_t p = 0; p < kBf16Parts; ++p) {
        const std::size_t tile = (k / kAmxDepth * kBf16Parts + p) * kTileRows + i;
        sum += value(parts[tile * kAmxDepth + k % kAmxDepth]);
      }
      EXPECT_EQ(sum, k < kCount ? rows[i][k] : 0.0F) << "row " << i << ", " << k;
      if (k < kCount) most = std::max(most, std::abs(rows[i][k]));
    }
    EXPECT_EQ(std::bit_cast<float>(largest[i]), most);
  }
}

TEST_P(Bf16PartsTest, PanelsAreTheExactSumsOfTheirParts) {
  std::mt19937 random(2);
  std::normal_distribution<float> normal;
  for (const std::size_t width : {16, 32}) {
    constexpr std::size_t kCount = 41, kSteps = 2;
    const auto panel = make_aligned<float>(kCount * width);
    for (std::size_t i = 0; i < kCount * width; ++i) panel[i] = normal(random);
    const auto parts = make_aligned<std::uint16_t>(width / kAmxColumns * kSteps * kAmxTileParts);
    bf16_parts_kernels().split_panel(panel.get(), kCount, width, parts.get());
    for (std::size_t k = 0; k < kSteps * kAmxDepth; ++k) {
      for (std::size_t j = 0; j < width; ++j) {
        double sum = 0;
        for (std::size_t p = 0; p < kBf16Parts; ++p) {
          const std::size_t tile = (j / kAmxColumns * kSteps + k / kAmxDepth) * kBf16Parts + p;
          const std::size_t pair = tile * kAmxDepth / 2 + k % kAmxDepth / 2;
          sum += value(parts[(pair * kAmxColumns + j % kAmxColumns) * 2 + k % 2]);
        }
        EXPECT_EQ(sum, k < kCount ? panel[k * width + j] : 0.0F) << k << ", " << j;
      }
    }
  }
}

TEST_P(Bf16PartsTest, TellsWhatDoesNotSplitWell) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto panel = make_aligned<float>(2 * 16);
  panel[3] = kInfinity;
  panel[4] = -std::numeric_limits<float>::quiet_NaN();
  panel[5] = std::numeric_limits<float>::denorm_min();
  panel[16 + 6] = -1;
  panel[6] = std::numeric_limits<float>::denorm_min();
  std::uint32_t largest[16];
  bf16_parts_kernels().largest_of_columns(panel.get(), 2, 16, largest);
  for (std::size_t j = 0; j < 16; ++j) EXPECT_EQ(splits_well(largest[j]), j < 3 || j > 5) << j;
}

INSTANTIATE_TEST_SUITE_P(Targets, Bf16PartsTest, ::testing::ValuesIn(testing::built_targets()),
                         testing::target_name);

}  // namespace
}  // namespace sepconv
