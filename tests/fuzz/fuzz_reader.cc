// libFuzzer's entry: every input becomes a file that one of the readers reads (FUZZ_READER names
// it).

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "fuzz/read_one.h"

namespace {

// A file of this process in memory.
const std::string& file_name() {
  static const std::string name = "/dev/shm/sepconv-fuzz-" + std::to_string(::getpid());
  return name;
}

void remove_file() { ::unlink(file_name().c_str()); }

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const int registered = std::atexit(remove_file);
  (void)registered;
  std::FILE* file = std::fopen(file_name().c_str(), "wb");
  if (!file) std::abort();
  const bool written = std::fwrite(data, 1, size, file) == size;
  if (std::fclose(file) != 0 || !written) std::abort();
  sepconv::fuzz::FUZZ_READER(file_name());
  return 0;
}
