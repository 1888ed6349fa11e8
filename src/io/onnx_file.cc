#include "io/onnx_file.h"

#include <onnx/onnx_pb.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>

#include "base/check.h"
#include "io/half.h"

namespace sepconv::io {

namespace {

namespace fs = std::filesystem;
using onnx::TensorProto;

constexpr std::int64_t kMostElements = std::int64_t{1} << 40;

class Reader {
 public:
  explicit Reader(const std::string& path) { file_.path = path; }

  OnnxFile read() {
    const onnx::ModelProto model = parse();
    read_opset(model);
    const onnx::GraphProto& graph = model.graph();
    refuse(graph.sparse_initializer_size() == 0, "has sparse tensors, which are not supported");
    for (const TensorProto& t : graph.initializer()) file_.constants[t.name()] = tensor(t);
    read_edges(graph);
    for (const onnx::NodeProto& n : graph.node()) read_node(n);
    return std::move(file_);
  }

 private:
  template <class... Args>
  void refuse(bool ok, fmt::format_string<Args...> format, Args&&... args) const {
    if (!ok) {
      throw FileError(file_.path + ": " + fmt::format(format, std::forward<Args>(args)...));
    }
  }

  onnx::ModelProto parse() const {
    std::ifstream stream(file_.path, std::ios::binary);
    refuse(stream.is_open() && !fs::is_directory(file_.path), "{}",
           fs::is_directory(file_.path) ? "is a folder" : std::strerror(errno));
    onnx::ModelProto model;
    refuse(model.ParseFromIstream(&stream), "is no ONNX file, or a truncated one");
    refuse(model.has_graph(), "has no graph: is no ONNX model");
    return model;
  }

  void read_opset(const onnx::ModelProto& model) {
    for (const auto& set : model.opset_import()) {
      if (set.domain().empty() || set.domain() == "ai.onnx") file_.opset = set.version();
    }
    refuse(file_.opset >= OnnxFile::kOldestOpset && file_.opset <= OnnxFile::kNewestOpset,
           "has operator set {}, expected {} to {}", file_.opset, OnnxFile::kOldestOpset,
           OnnxFile::kNewestOpset);
    refuse(model.functions_size() == 0, "defines functions, which are not supported");
  }

  void read_edges(const onnx::GraphProto& graph) {
    std::vector<const onnx::ValueInfoProto*> inputs;
    for (const auto& input : graph.input()) {
      if (!file_.constants.contains(input.name())) inputs.push_back(&input);
    }
    refuse(inputs.size() == 1, "has {} inputs, expected 1", inputs.size());
    refuse(graph.output_size() > 0, "has no outputs");
    const auto& type = inputs[0]->type().tensor_type();
    refuse(type.elem_type() == TensorProto::FLOAT, "input {} is not of float32 elements",
           inputs[0]->name());
    file_.input = inputs[0]->name();
    for (const auto& dim : type.shape().dim()) {
      file_.input_dims.push_back(dim.has_dim_value() && dim.dim_value() > 0 ? dim.dim_value() : -1);
    }
    for (const auto& output : graph.output()) file_.outputs.push_back(output.name());
  }

  void read_node(const onnx::NodeProto& proto) {
    OnnxNode node;
    const bool standard = proto.domain().empty() || proto.domain() == "ai.onnx";
    node.type = standard ? proto.op_type() : proto.domain() + "." + proto.op_type();
    node.name = proto.name();
    if (node.name.empty() && proto.output_size() > 0) node.name = proto.output(0);
    node.inputs.assign(proto.input().begin(), proto.input().end());
    node.outputs.assign(proto.output().begin(), proto.output().end());
    for (const auto& a : proto.attribute()) {
      OnnxAttribute& to = node.attributes[a.name()];
      to.number = a.f();
      to.integer = a.i();
      to.text = a.s();
      to.integers.assign(a.ints().begin(), a.ints().end());
      to.numbers.assign(a.floats().begin(), a.floats().end());
      if (a.has_t()) to.tensor = tensor(a.t());
    }
    file_.nodes.push_back(std::move(node));
  }

  std::int64_t elements(const TensorProto& t) const {
    std::int64_t count = 1;
    for (const std::int64_t d : t.dims()) {
      refuse(d >= 0, "tensor {}: has a negative size", t.name());
      refuse(d == 0 || count <= kMostElements / d, "tensor {}: is too large", t.name());
      count *= d;
    }
    return count;
  }

  // The elements' bytes, where the file has them as bytes.
  std::string bytes(const TensorProto& t) const {
    if (t.data_location() != TensorProto::EXTERNAL) return t.raw_data();
    std::string location;
    std::int64_t offset = 0, length = -1;
    for (const auto& entry : t.external_data()) {
      if (entry.key() == "location") location = entry.value();
      if (entry.key() == "offset") offset = number(t, entry.value());
      if (entry.key() == "length") length = number(t, entry.value());
    }
    const fs::path relative(location);
    bool inside = !relative.empty() && relative.is_relative();
    for (const fs::path& part : relative) inside = inside && part != "..";
    refuse(inside, "tensor {}: its data are at '{}', expected a file beside the model", t.name(),
           location);
    const fs::path path = fs::path(file_.path).parent_path() / relative;
    std::error_code error;
    const auto size = fs::is_regular_file(path, error)
                          ? static_cast<std::int64_t>(fs::file_size(path, error))
                          : -1;
    refuse(size >= 0, "tensor {}: cannot read its data in {}", t.name(), path.string());
    if (length < 0) length = size - offset;
    refuse(offset >= 0 && length >= 0 && offset <= size && length <= size - offset,
           "tensor {}: bytes {} to {} of {}, which has {}", t.name(), offset, offset + length,
           path.string(), size);
    std::string data(static_cast<std::size_t>(length), '\0');
    std::ifstream stream(path, std::ios::binary);
    stream.seekg(offset);
    stream.read(data.data(), length);
    refuse(stream.good() || length == 0, "tensor {}: cannot read its data in {}", t.name(),
           path.string());
    return data;
  }

  std::int64_t number(const TensorProto& t, const std::string& text) const {
    std::int64_t value = 0;
    const char* end = text.data() + text.size();
    const auto [next, error] = std::from_chars(text.data(), end, value);
    refuse(error == std::errc() && next == end && value >= 0, "tensor {}: '{}' is no position",
           t.name(), text);
    return value;
  }

  // Every element of raw bytes, converted.
  template <class From, class To, class Convert>
  void widen(const TensorProto& t, const std::string& raw, std::size_t count, std::vector<To>& to,
             const Convert& convert) const {
    refuse(raw.size() == count * sizeof(From), "tensor {}: has {} bytes of data, expected {}",
           t.name(), raw.size(), count * sizeof(From));
    to.resize(count);
    for (std::size_t i = 0; i < count; ++i) {
      From value;
      std::memcpy(&value, raw.data() + i * sizeof(From), sizeof(From));
      to[i] = convert(value);
    }
  }

  // Elements that protobuf holds one by one.
  template <class List, class To, class Convert>
  void take(const TensorProto& t, const List& list, std::size_t count, std::vector<To>& to,
            const Convert& convert) const {
    refuse(static_cast<std::size_t>(list.size()) == count,
           "tensor {}: has {} elements of data, expected {}", t.name(), list.size(), count);
    to.resize(count);
    for (std::size_t i = 0; i < count; ++i) to[i] = convert(list.Get(static_cast<int>(i)));
  }

  OnnxConstant tensor(const TensorProto& t) const {
    auto constant = std::make_shared<OnnxTensor>();
    constant->dims.assign(t.dims().begin(), t.dims().end());
    const auto count = static_cast<std::size_t>(elements(t));
    const bool packed = t.has_raw_data() || t.data_location() == TensorProto::EXTERNAL;
    const std::string raw = packed ? bytes(t) : std::string();
    const auto as_float = [](auto v) { return static_cast<float>(v); };
    const auto as_integer = [](auto v) { return static_cast<std::int64_t>(v); };
    const auto half = [](auto v) { return widen_half(static_cast<std::uint16_t>(v)); };
    const auto bfloat = [](auto v) { return widen_bfloat(static_cast<std::uint16_t>(v)); };
    auto& floats = constant->floats;
    auto& integers = constant->integers;
    const auto list = [&](const auto& elements, auto& to, const auto& convert) {
      take(t, elements, count, to, convert);
    };
    switch (t.data_type()) {
      case TensorProto::FLOAT:
        packed ? widen<float>(t, raw, count, floats, as_float)
               : list(t.float_data(), floats, as_float);
        break;
      case TensorProto::DOUBLE:
        packed ? widen<double>(t, raw, count, floats, as_float)
               : list(t.double_data(), floats, as_float);
        break;
      case TensorProto::FLOAT16:
        packed ? widen<std::uint16_t>(t, raw, count, floats, half)
               : list(t.int32_data(), floats, half);
        break;
      case TensorProto::BFLOAT16:
        packed ? widen<std::uint16_t>(t, raw, count, floats, bfloat)
               : list(t.int32_data(), floats, bfloat);
        break;
      case TensorProto::INT64:
        packed ? widen<std::int64_t>(t, raw, count, integers, as_integer)
               : list(t.int64_data(), integers, as_integer);
        break;
      case TensorProto::INT32:
        packed ? widen<std::int32_t>(t, raw, count, integers, as_integer)
               : list(t.int32_data(), integers, as_integer);
        break;
      case TensorProto::BOOL:
      case TensorProto::UINT8:
        packed ? widen<std::uint8_t>(t, raw, count, integers, as_integer)
               : list(t.int32_data(), integers, as_integer);
        break;
      default:
        refuse(false, "tensor {}: element type {} is not supported", t.name(), t.data_type());
    }
    constant->integer = !integers.empty() || t.data_type() == TensorProto::INT64 ||
                        t.data_type() == TensorProto::INT32 || t.data_type() == TensorProto::BOOL ||
                        t.data_type() == TensorProto::UINT8;
    return constant;
  }

  OnnxFile file_;
};

}  // namespace

OnnxFile read_onnx(const std::string& path) { return Reader(path).read(); }

}  // namespace sepconv::io
