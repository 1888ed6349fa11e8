#include <algorithm>
#include <chrono>

#include "base/aligned.h"
#include "base/check.h"
#include "kernels/machine_speed.h"
#include "sepconv/cpu.h"

namespace sepconv {

namespace {

using Clock = std::chrono::steady_clock;

// The best rate of `work`, which returns how much it did, over a tenth of a second.
template <class Work>
double best_rate(const Work& work) {
  double best = 0;
  const auto stop = Clock::now() + std::chrono::milliseconds(100);
  while (Clock::now() < stop) {
    const auto start = Clock::now();
    const double done = work();
    best = std::max(best, done / std::chrono::duration<double>(Clock::now() - start).count());
  }
  return best;
}

}  // namespace

double measure_peak_gflops() {
  const MachineSpeedKernels& k = machine_speed_kernels();
  return best_rate([&] { return k.multiply_add(100'000); }) / 1e9;
}

double measure_read_gbps(std::size_t bytes) {
  check(bytes >= 4096 && bytes <= (std::size_t{1} << 32), "bytes: got {}, expected 4096 to 2^32",
        bytes);
  const MachineSpeedKernels& k = machine_speed_kernels();
  const std::size_t n = bytes / sizeof(float);
  const auto memory = make_aligned<float>(n);
  const std::size_t times = std::max<std::size_t>(1, (4 << 20) / bytes);
  volatile float keep = 0;
  return best_rate([&] {
           for (std::size_t i = 0; i < times; ++i) keep = keep + k.read(memory.get(), n);
           return static_cast<double>(times * n * sizeof(float));
         }) /
         1e9;
}

}  // namespace sepconv
