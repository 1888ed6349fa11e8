#include <fcntl.h>
#include <fmt/ranges.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <utility>

#include "base/check.h"
#include "io/half.h"
#include "sepconv/io.h"

namespace sepconv::io {

namespace {

using Json = nlohmann::json;

// The reference implementation's limit.
constexpr std::uint64_t kMaxHeader = 100'000'000;

struct Format {
  const char* name;
  DType dtype;
};
constexpr Format kFormats[] = {{"F32", DType::kFloat32}, {"F64", DType::kFloat64},
                               {"F16", DType::kFloat16}, {"BF16", DType::kBFloat16},
                               {"I64", DType::kInt64},   {"I32", DType::kInt32},
                               {"U8", DType::kUInt8}};

template <class T>
T element(std::span<const std::byte> bytes, std::int64_t i) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<std::size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

float as_float(const SafeTensors::Entry& entry, std::int64_t i) {
  switch (entry.dtype) {
    case DType::kFloat16:
      return widen_half(element<std::uint16_t>(entry.bytes, i));
    case DType::kBFloat16:
      return widen_bfloat(element<std::uint16_t>(entry.bytes, i));
    default:
      return static_cast<float>(element<double>(entry.bytes, i));
  }
}

std::string bracketed(const std::vector<std::int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

}  // namespace

struct SafeTensors::Mapping {
  const std::byte* data = nullptr;
  std::size_t size = 0;
  int file = -1;
  struct timespec changed {};

  explicit Mapping(const std::string& path) {
    const int opened = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    check<FileError>(opened >= 0, "{}: {}", path, std::strerror(errno));
    struct stat info {};
    const bool regular = ::fstat(opened, &info) == 0 && S_ISREG(info.st_mode);
    size = regular ? static_cast<std::size_t>(info.st_size) : 0;
    changed = info.st_mtim;
    void* memory = size ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, opened, 0) : MAP_FAILED;
    if (size < 8 || memory == MAP_FAILED) ::close(opened);
    check<FileError>(regular, "{}: not a regular file", path);
    check<FileError>(size >= 8, "{}: {} bytes, a safetensors file has at least 8", path, size);
    check<FileError>(memory != MAP_FAILED, "{}: cannot be mapped into memory", path);
    data = static_cast<const std::byte*>(memory);
    file = opened;
  }
  ~Mapping() {
    ::munmap(const_cast<std::byte*>(data), size);
    ::close(file);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
};

namespace {

SafeTensors::Entry parse_entry(const std::string& path, const std::string& name, const Json& json,
                               std::span<const std::byte> body) {
  const auto fail = [&](const std::string& why) {
    return FileError(fmt::format("{}: tensor '{}': {}", path, name, why));
  };
  if (!json.is_object() || !json.contains("dtype") || !json.contains("shape") ||
      !json.contains("data_offsets") || !json["dtype"].is_string()) {
    throw fail("expected an object with dtype, shape and data_offsets");
  }
  SafeTensors::Entry entry{};
  const std::string dtype = json["dtype"].get<std::string>();
  const auto* format = std::find_if(std::begin(kFormats), std::end(kFormats),
                                    [&](const Format& f) { return dtype == f.name; });
  if (format == std::end(kFormats)) throw fail("dtype " + dtype + " is not supported");
  entry.dtype = format->dtype;
  const auto is_size = [](const Json& j) { return j.is_number_unsigned(); };
  const Json &shape = json["shape"], &offsets = json["data_offsets"];
  if (!shape.is_array() || !std::all_of(shape.begin(), shape.end(), is_size)) {
    throw fail("shape is not a list of sizes");
  }
  if (!offsets.is_array() || offsets.size() != 2 || !is_size(offsets[0]) || !is_size(offsets[1])) {
    throw fail("data_offsets is not a pair of offsets");
  }
  std::uint64_t expected = size_of(entry.dtype);
  for (const Json& size : shape) {
    const auto n = size.get<std::uint64_t>();
    if (n > (std::uint64_t{1} << 47) || __builtin_mul_overflow(expected, n, &expected)) {
      throw fail("shape is too large");
    }
    entry.shape.push_back(static_cast<std::int64_t>(n));
  }
  const auto begin = offsets[0].get<std::uint64_t>(), end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > body.size()) {
    throw fail(fmt::format("data_offsets [{}, {}] lie outside the file's {} bytes of data", begin,
                           end, body.size()));
  }
  if (end - begin != expected) {
    throw fail(fmt::format("has {} bytes, its shape {} and dtype {} need {}", end - begin,
                           bracketed(entry.shape), dtype, expected));
  }
  entry.bytes = body.subspan(begin, end - begin);
  return entry;
}

}  // namespace

SafeTensors::SafeTensors(const std::string& path)
    : path_(path), mapping_(std::make_shared<Mapping>(path)) {
  const std::span<const std::byte> all(mapping_->data, mapping_->size);
  std::uint64_t header = 0;
  std::memcpy(&header, all.data(), 8);
  check<FileError>(header <= kMaxHeader && header <= all.size() - 8,
                   "{}: header of {} bytes in a file of {}; truncated or not safetensors", path,
                   header, all.size());
  const char* text = reinterpret_cast<const char*>(all.data()) + 8;
  const Json json = Json::parse(text, text + header, nullptr, false);
  check<FileError>(json.is_object(), "{}: header is not a JSON object; not safetensors", path);
  const auto body = all.subspan(8 + header);
  for (const auto& [name, value] : json.items()) {
    if (name != "__metadata__") {
      entries_.emplace(name, parse_entry(path, name, value, body));
      continue;
    }
    check<FileError>(value.is_object(), "{}: __metadata__ is not an object", path);
    for (const auto& [key, item] : value.items()) {
      check<FileError>(item.is_string(), "{}: metadata '{}' is not a string", path, key);
      metadata_.emplace(key, item.get<std::string>());
    }
  }
  std::vector<std::pair<std::span<const std::byte>, const std::string*>> pieces;
  for (const auto& [name, entry] : entries_) pieces.emplace_back(entry.bytes, &name);
  std::sort(pieces.begin(), pieces.end(), [](const auto& a, const auto& b) {
    return std::pair(a.first.data(), a.first.size()) < std::pair(b.first.data(), b.first.size());
  });
  const std::byte* next = body.data();
  for (const auto& [bytes, name] : pieces) {
    check<FileError>(bytes.data() == next, "{}: tensor '{}' overlaps its neighbour or leaves a gap",
                     path, *name);
    next += bytes.size();
  }
  check<FileError>(next == body.data() + body.size(), "{}: {} bytes after the last tensor", path,
                   body.data() + body.size() - next);
}

const SafeTensors::Entry& SafeTensors::entry(const std::string& name, const Shape& shape) const {
  const auto found = entries_.find(name);
  check<FileError>(found != entries_.end(), "{}: has no tensor '{}'", path_, name);
  const Entry& entry = found->second;
  const bool same = entry.shape.size() == static_cast<std::size_t>(shape.rank()) &&
                    std::equal(entry.shape.begin(), entry.shape.end(),
                               std::begin({shape[0], shape[1], shape[2], shape[3]}));
  check<FileError>(same, "{}: tensor '{}' has shape {}, expected {}", path_, name,
                   bracketed(entry.shape), to_string(shape));
  return entry;
}

std::shared_ptr<const Tensor> SafeTensors::share(const std::string& name,
                                                 const Shape& shape) const {
  const Entry& found = entry(name, shape);
  const bool aligned = reinterpret_cast<std::uintptr_t>(found.bytes.data()) % alignof(float) == 0;
  if (found.dtype != DType::kFloat32 || !aligned || found.bytes.empty()) {
    return std::make_shared<const Tensor>(load(name, shape));
  }
  return Tensor::borrow(reinterpret_cast<const float*>(found.bytes.data()), shape, mapping_);
}

void SafeTensors::check_unchanged() const {
  struct stat info {};
  const bool same = ::fstat(mapping_->file, &info) == 0 &&
                    static_cast<std::size_t>(info.st_size) == mapping_->size &&
                    info.st_mtim.tv_sec == mapping_->changed.tv_sec &&
                    info.st_mtim.tv_nsec == mapping_->changed.tv_nsec;
  check<FileError>(same, "{}: was written to since it was loaded, expected it to stay as it was",
                   path_);
}

Tensor SafeTensors::load(const std::string& name, const Shape& shape) const {
  const Entry& entry = this->entry(name, shape);
  const bool floating = entry.dtype == DType::kFloat32 || entry.dtype == DType::kFloat64 ||
                        entry.dtype == DType::kFloat16 || entry.dtype == DType::kBFloat16;
  check<FileError>(floating, "{}: tensor '{}' has dtype {}, expected a floating-point one", path_,
                   name, to_string(entry.dtype));
  Tensor tensor(shape);
  if (entry.dtype == DType::kFloat32) {
    if (!entry.bytes.empty()) {
      std::memcpy(tensor.data(), entry.bytes.data(), entry.bytes.size());
    }
    return tensor;
  }
  for (std::int64_t i = 0; i < shape.elements(); ++i) tensor.data()[i] = as_float(entry, i);
  return tensor;
}

}  // namespace sepconv::io
