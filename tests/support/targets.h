#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "sepconv/cpu.h"

namespace sepconv::testing {

/// A test that runs once for every instruction set in the library; the ones that this machine lacks
/// are reported as skipped.
class EachTarget : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const auto usable = cpu_info().targets;
    if (std::find(usable.begin(), usable.end(), GetParam()) == usable.end()) {
      GTEST_SKIP() << "this machine has no " << GetParam();
    }
    set_target(GetParam());
  }
  void TearDown() override { set_target(""); }
};

inline std::vector<std::string> built_targets() { return cpu_info().built_targets; }

inline std::string target_name(const ::testing::TestParamInfo<std::string>& info) {
  return info.param;
}

}  // namespace sepconv::testing
