#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/amx.h"
#include "sepconv/cpu.h"
#include "support/emulated_amx.h"

namespace sepconv::testing {

inline bool machine_has(const std::string& target) {
  const auto usable = cpu_info().targets;
  return std::find(usable.begin(), usable.end(), target) != usable.end();
}

/// A test that runs once for every instruction set in the library; the ones that this machine lacks
/// are reported as skipped. AMX's few instructions are emulated on every machine that has the rest,
/// and wherever they can be used.
class EachTarget : public ::testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    const bool emulates = GetParam() == kEmulated;
    const std::string target = emulates ? "AVX3" : GetParam();
    if (!machine_has(target)) GTEST_SKIP() << "this machine has no " << target;
    set_target(target);
    if (emulates) emulate_amx(&kEmulatedAmx);
  }
  void TearDown() override {
    emulate_amx(nullptr);
    set_target("");
  }

  static constexpr const char* kEmulated = "emulated_AMX";
};

/// The same with products traded for additions in networks, whatever the machine gains by that.
class EachTargetTrading : public EachTarget {
 protected:
  void SetUp() override {
    EachTarget::SetUp();
    set_paired_products(true);
  }
  void TearDown() override {
    set_paired_products(std::nullopt);
    EachTarget::TearDown();
  }
};

inline std::vector<std::string> built_targets() {
  std::vector<std::string> targets = cpu_info().built_targets;
  if (kAmxBuilt) targets.insert(targets.begin(), "emulated_AMX");
  return targets;
}

inline std::string target_name(const ::testing::TestParamInfo<std::string>& info) {
  return info.param;
}

}  // namespace sepconv::testing
