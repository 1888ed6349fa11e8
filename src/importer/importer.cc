// From an ONNX graph to ours, node by node. A value is a constant, a view of one of our graph's
// values (view.h), or an expression that waits to become part of something: whatever exporters
// take apart, a GELU, a layer norm, attention, is put together again when its last node is met.

#include "sepconv/onnx.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <exception>

#include "base/check.h"
#include "base/sizes.h"
#include "importer/computed.h"
#include "importer/fold.h"
#include "importer/handlers.h"
#include "importer/needed.h"

namespace sepconv {

namespace importer {

namespace {

class Importer {
 public:
  Importer(const io::OnnxFile& file, const Shape& input) : file_(file), net_(file.opset, input) {
    values_[file_.input] = whole_view(0, input);
    for (const auto& [name, constant] : file_.constants) {
      values_[name] = constant;
      room_ += 4 * constant->size();
    }
  }

  Graph run() {
    for (const OnnxNode& node : file_.nodes) {
      const Values in = inputs_of(node);
      Values out;
      guarded(node.type, node.name, [&] { out = import(node, in); });
      out.resize(node.outputs.size());
      for (std::size_t i = 0; i < out.size(); ++i) values_[node.outputs[i]] = out[i];
    }
    std::vector<ValueId> outputs;
    for (const std::string& name : file_.outputs) {
      check<FileError>(values_.contains(name), "{}: nothing makes its output '{}'", file_.path,
                       name);
      const Value& result = values_[name];
      if (!problems_.empty() && std::holds_alternative<std::monostate>(result)) continue;
      guarded("output", name, [&] { outputs.push_back(finish(name, result, outputs)); });
    }
    check<FileError>(problems_.empty(), "{}: not supported: {}{}", file_.path,
                     fmt::join(problems_, "; "), problems_.empty() ? "" : advice());
    net_.graph.outputs = std::move(outputs);
    return std::move(net_.graph);
  }

 private:
  Values inputs_of(const OnnxNode& node) const {
    Values in;
    for (const std::string& name : node.inputs) {
      const auto found = values_.find(name);
      check<FileError>(name.empty() || found != values_.end(),
                       "{}: {} ({}) reads '{}', which nothing before it makes", file_.path,
                       node.type, node.name, name);
      in.push_back(name.empty() ? Value(OnnxConstant()) : found->second);
    }
    return in;
  }

  // Nothing, without complaint, where an input is what is left of a node that is not supported.
  Values import(const OnnxNode& node, const Values& in) {
    const Handler handler = handler_of(node.type);
    const auto is_constant = [](const Value& v) { return std::holds_alternative<OnnxConstant>(v); };
    const auto is_unknown = [](const Value& v) {
      return std::holds_alternative<std::monostate>(v);
    };
    const bool folds = can_fold(node.type);
    if (!handler && !folds) throw Unsupported("");
    if (std::any_of(in.begin(), in.end(), is_unknown)) return {};
    const bool constants = std::all_of(in.begin(), in.end(), is_constant);
    if (constants) return of_constants(node, in);
    if (!handler) throw Unsupported("of other than constants");
    if (node.outputs.empty()) throw Unsupported("without outputs");
    Values all = in;
    all.resize(std::max(in.size(), kMostInputs), OnnxConstant());
    if (!takes_padding(node.type)) {
      for (Value& v : all) {
        const auto* x = std::get_if<View>(&v);
        if (x && x->padding != Padding(0)) v = net_.real(v);
      }
    }
    return apply(handler, net_, node, std::move(all));
  }

  Values of_constants(const OnnxNode& node, const Values& in) {
    Arguments constants;
    for (std::size_t i = 0; i < in.size(); ++i) constants.push_back(constant(in, i));
    const Arguments results = result_of(node, constants);
    for (const OnnxConstant& result : results) {
      if (result->size() > room_) throw Unsupported("constants of too many elements in all");
      room_ -= result->size();
    }
    return {results.begin(), results.end()};
  }

  // By what is known of the arithmetic of shapes or else, if that can be, by running what the node
  // becomes.
  Arguments result_of(const OnnxNode& node, const Arguments& in) const {
    if (!can_fold(node.type)) return computed(net_.opset, node, in);
    try {
      return {fold(node, in)};
    } catch (const Unsupported&) {
      const std::exception_ptr why = std::current_exception();
      try {
        return computed(net_.opset, node, in);
      } catch (const Unsupported&) {
        std::rethrow_exception(why);
      }
    }
  }

  bool is_known(const std::string& name) const {
    const auto found = values_.find(name);
    return found != values_.end() && name != file_.input &&
           !std::holds_alternative<std::monostate>(found->second) &&
           !std::holds_alternative<OnnxConstant>(found->second);
  }

  // The values that are known among those that nodes without a result read, and then the outputs
  // that are; where these are many, what the first such node reads.
  std::vector<std::string> values_before() const {
    constexpr std::size_t kMost = 8;
    std::vector<std::string> names, first;
    const auto add = [&](const std::vector<std::string>& some) {
      for (const std::string& name : some) {
        const bool again = std::find(names.begin(), names.end(), name) != names.end();
        if (is_known(name) && !again) names.push_back(name);
      }
    };
    for (const OnnxNode& node : file_.nodes) {
      if (node.outputs.empty() || is_known(node.outputs[0])) continue;
      const auto result = values_.find(node.outputs[0]);
      const bool unknown = std::holds_alternative<std::monostate>(result->second);
      if (unknown) add(node.inputs);
      if (first.empty()) first = names;
    }
    add(file_.outputs);
    return names.size() > kMost ? first : names;
  }

  // What the file could be asked for instead; nothing where that could not be given either.
  std::string advice() {
    const std::vector<std::string> names = values_before();
    std::vector<ValueId> outputs;
    try {
      for (const std::string& name : names) {
        outputs.push_back(finish(name, values_[name], outputs));
      }
    } catch (const Unsupported&) {
      return "";
    } catch (const ArgumentError&) {
      return "";
    }
    if (names.empty()) return "";
    return fmt::format("; outputs '{}' need none of it", fmt::join(names, "', '"));
  }

  // Operators that padding may become part of: others look at values that have it.
  static bool takes_padding(const std::string& type) {
    return type == "Conv" || type == "MaxPool" || type == "AveragePool" || type == "Identity";
  }

  // The value that an output is: an image or a vector as it lies, or a copy in another order.
  ValueId finish(const std::string& name, const Value& result, const std::vector<ValueId>& before) {
    View v = net_.real(net_.settled(result));
    const std::size_t rank = v.dims.size();
    if (is_image(v, net_.shape(v)) && rank != 3) {
      if (rank == 4 && net_.shape(v).rank() == 2) v = pooled_image(v);
      const ValueId id = rank == 2 ? net_.as_vector(v, name) : v.id;
      if (id != 0 && std::find(before.begin(), before.end(), id) == before.end()) return id;
    }
    if (rank > to_size(Shape::kMaxRank)) throw Unsupported("of more than eight dimensions");
    return net_.add(name, ArrangeNode{v.dims}, {v.id});
  }

  // A global pool whose result is to stay an image, [N, C, 1, 1].
  View pooled_image(const View& v) {
    const Node pool = net_.graph.nodes[v.id];
    if (!std::holds_alternative<GlobalAveragePoolNode>(pool.op)) {
      throw Unsupported("is a vector with four dimensions");
    }
    const Shape& x = net_.shapes[pool.inputs[0]];
    Pool2dNode window;
    window.kind = Pool::kAverage;
    window.options.kernel = {x[2], x[3]};
    return net_.add_view(pool.name, window, pool.inputs);
  }

  template <class Work>
  void guarded(const std::string& type, const std::string& name, const Work& work) {
    const auto note = [&](const std::string& why) {
      problems_.push_back(fmt::format("{} ({}){}{}", type, name, why.empty() ? "" : ": ", why));
    };
    try {
      work();
    } catch (const Unsupported& why) {
      note(why.what());
    } catch (const ArgumentError& error) {
      note(error.what());
    }
  }

  const io::OnnxFile& file_;
  GraphBuilder net_;
  std::map<std::string, Value> values_;
  std::vector<std::string> problems_;
  std::size_t room_ = std::size_t{1} << 24;  ///< elements that constants may be folded into
};

}  // namespace
}  // namespace importer

OnnxModel::OnnxModel(const std::string& path, const std::vector<std::string>& outputs) {
  auto file = std::make_shared<io::OnnxFile>(io::read_onnx(path));
  if (!outputs.empty()) importer::choose_outputs(*file, outputs);
  importer::keep_needed(*file);
  file_ = std::move(file);
  check<FileError>(file_->input_dims.size() == 4, "{}: its input {} has {} dimensions, expected 4",
                   path, file_->input, file_->input_dims.size());
}

const std::string& OnnxModel::path() const { return file_->path; }

Shape OnnxModel::input_shape() const {
  const auto size = [this](std::size_t i, std::int64_t otherwise) {
    const std::int64_t given = file_->input_dims[i];
    return given < 0 ? otherwise : given;
  };
  return {size(0, 1), size(1, 3), size(2, 224), size(3, 224)};
}

Graph OnnxModel::graph(const Shape& input) const {
  check(input.rank() == 4, "x: shape is {}, expected [N, C, H, W]", to_string(input));
  for (int i = 0; i < 4; ++i) {
    const std::int64_t size = file_->input_dims[to_size(i)];
    check(size < 0 || size == input[i], "x: shape is {}, {} was made for {}", to_string(input),
          file_->path, to_string(input_shape()));
  }
  return importer::Importer(*file_, input).run();
}

}  // namespace sepconv
