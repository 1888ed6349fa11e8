// The files that the fuzzers start from and have found: none may crash a reader.

#include <gtest/gtest.h>

#include <filesystem>

#include "fuzz/read_one.h"

namespace sepconv {
namespace {

namespace fs = std::filesystem;

template <class Read>
void read_all(const char* folder, const Read& read) {
  int whole = 0, files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(SEPCONV_CORPUS) / folder)) {
    ++files;
    whole += read(entry.path().string());
  }
  EXPECT_GE(files, 5);
  EXPECT_GE(whole, 3);  // or they would say nothing of what lies behind the first check
}

TEST(Corpus, Onnx) { read_all("onnx", fuzz::read_onnx_file); }
TEST(Corpus, SafeTensors) { read_all("safetensors", fuzz::read_safetensors_file); }

}  // namespace
}  // namespace sepconv
