#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <stdexcept>

namespace sepconv::testing {

/// Floats that end right before a page that may not be touched, or begin right after one: a stray
/// read or write ends the test.
class GuardedFloats {
 public:
  GuardedFloats(std::size_t count, bool guard_after) {
    const std::size_t page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inside = (count * sizeof(float) + page - 1) / page * page;
    bytes_ = inside + 2 * page;
    memory_ = mmap(nullptr, bytes_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::runtime_error("mmap");
    char* first = static_cast<char*>(memory_) + page;
    if (inside && mprotect(first, inside, PROT_READ | PROT_WRITE) != 0) {
      throw std::runtime_error("mprotect");
    }
    const std::size_t skip = guard_after ? inside - count * sizeof(float) : 0;
    data_ = reinterpret_cast<float*>(first + skip);
  }
  ~GuardedFloats() { munmap(memory_, bytes_); }
  GuardedFloats(const GuardedFloats&) = delete;
  GuardedFloats& operator=(const GuardedFloats&) = delete;

  float* data() { return data_; }

 private:
  void* memory_;
  std::size_t bytes_;
  float* data_;
};

}  // namespace sepconv::testing
