#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <numeric>

#include "base/aligned.h"
#include "base/check.h"
#include "cli/commands.h"
#include "cli/progress.h"
#include "sepconv/sepconv.h"

namespace sepconv::cli {

namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

struct Options {
  std::vector<std::string> images;
  std::string model, weights;
  std::vector<std::string> outputs;
  int top = 5;
  int threads = 1;
  bool json = false;
};

struct Guess {
  std::int64_t index;
  float probability;
  std::string label;
};

bool is_picture(const fs::path& path) {
  std::string extension = path.extension().string();
  std::transform(extension.begin(), extension.end(), extension.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return extension == ".jpg" || extension == ".jpeg" || extension == ".png";
}

// Files as given; folders as the pictures in them, by name.
std::vector<std::string> expand(const std::vector<std::string>& arguments) {
  std::vector<std::string> files;
  for (const std::string& argument : arguments) {
    if (!fs::is_directory(argument)) {
      files.push_back(argument);
      continue;
    }
    std::vector<std::string> inside;
    for (const auto& entry : fs::directory_iterator(argument)) {
      if (entry.is_regular_file() && is_picture(entry.path()))
        inside.push_back(entry.path().string());
    }
    check<FileError>(!inside.empty(), "{}: folder without .jpg, .jpeg or .png files", argument);
    std::sort(inside.begin(), inside.end());
    files.insert(files.end(), inside.begin(), inside.end());
  }
  return files;
}

class Classifier {
 public:
  explicit Classifier(const Options& o)
      : pool_(o.threads),
        top_(o.top),
        model_(load(o)),
        network_(without_softmax(model_.graph(input_shape())), input_shape()),
        softmax_(network_.output_shape()),
        workspace_bytes_(network_.workspace_bytes(o.threads)),
        workspace_(make_aligned<std::byte>(workspace_bytes_)),
        logits_(network_.output_shape()),
        probabilities_(network_.output_shape()) {}

  std::vector<Guess> run(const std::string& path, double& milliseconds) {
    const Tensor x = io::preprocess(io::read_image(path), model_.info.preprocessing);
    const auto start = Clock::now();
    network_.run(x.view(), logits_.view(), {workspace_.get(), workspace_bytes_}, pool_);
    softmax_.run(logits_.view(), probabilities_.view(), {workspace_.get(), workspace_bytes_});
    milliseconds = std::chrono::duration<double, std::milli>(Clock::now() - start).count();
    std::vector<std::int64_t> order(static_cast<std::size_t>(network_.output_shape()[1]));
    std::iota(order.begin(), order.end(), 0);
    const auto top =
        std::min(static_cast<std::ptrdiff_t>(top_), static_cast<std::ptrdiff_t>(order.size()));
    const float* p = probabilities_.data();
    std::partial_sort(order.begin(), order.begin() + top, order.end(),
                      [p](auto a, auto b) { return p[a] > p[b]; });
    std::vector<Guess> guesses;
    for (std::ptrdiff_t i = 0; i < top; ++i) {
      const std::int64_t index = order[static_cast<std::size_t>(i)];
      guesses.push_back({index, p[index], io::class_label(index, network_.output_shape()[1])});
    }
    return guesses;
  }

 private:
  static models::Loaded load(const Options& o) {
    check(!o.weights.empty() || models::is_onnx(o.model),
          "weights: none given, expected {}'s safetensors file", o.model);
    return models::load(o.model, o.weights, o.outputs);
  }
  Shape input_shape() const {
    const std::int64_t size = model_.info.preprocessing.size;
    return {1, 3, size, size};
  }

  ThreadPool pool_;
  int top_;
  models::Loaded model_;
  Network network_;
  Softmax softmax_;
  std::size_t workspace_bytes_;
  AlignedArray<std::byte> workspace_;
  Tensor logits_, probabilities_;
};

nlohmann::json as_json(const std::string& path, double milliseconds,
                       const std::vector<Guess>& guesses) {
  nlohmann::json top = nlohmann::json::array();
  for (const Guess& g : guesses) {
    top.push_back({{"class", g.index}, {"label", g.label}, {"probability", g.probability}});
  }
  return {{"image", path}, {"milliseconds", milliseconds}, {"top", top}};
}

void print(const std::string& path, double milliseconds, const std::vector<Guess>& guesses) {
  fmt::print("{}  ({:.1f} ms)\n", path, milliseconds);
  for (const Guess& g : guesses) {
    fmt::print("  {:6.2f} %  {}\n", 100 * g.probability, g.label);
  }
}

void classify(const Options& o) {
  const std::vector<std::string> files = expand(o.images);
  Classifier classifier(o);
  Progress progress(files.size());
  nlohmann::json results = nlohmann::json::array();
  std::string failures;
  std::size_t failed = 0;
  for (std::size_t i = 0; i < files.size(); ++i) {
    progress.show(i, files[i]);
    try {
      double milliseconds = 0;
      const std::vector<Guess> guesses = classifier.run(files[i], milliseconds);
      progress.clear();
      if (o.json) {
        results.push_back(as_json(files[i], milliseconds, guesses));
      } else {
        print(files[i], milliseconds, guesses);
      }
    } catch (const FileError& error) {
      if (files.size() == 1) throw;
      failures += (failed++ ? "; " : "") + std::string(error.what());
    }
  }
  progress.clear();
  if (o.json) fmt::print("{}\n", results.dump(2));
  check<FileError>(failed == 0, "{} of {} pictures failed: {}", failed, files.size(), failures);
}

}  // namespace

void add_classify(CLI::App& app) {
  auto o = std::make_shared<Options>();
  CLI::App* command = app.add_subcommand("classify", "Name what pictures show");
  command->add_option("images", o->images, "JPEG or PNG files, or folders of them")->required();
  command->add_option("--model", o->model, "a name from `sepconv models`, or an ONNX file")
      ->required();
  command->add_option("--weights", o->weights,
                      "the model's safetensors file; an ONNX file has its own");
  command->add_option("--top", o->top, "how many classes to name")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  command
      ->add_option(
          "--outputs", o->outputs,
          "values of an ONNX file, separated by commas, to end with instead of its outputs")
      ->delimiter(',')
      ->allow_extra_args(false);
  command->add_option("--threads", o->threads, "how many threads to use")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--json", o->json, "print JSON");
  command->footer(
      "Example:\n"
      "  sepconv classify photo.jpg holiday/ --model mobilenet_v2 --weights v2.safetensors --top "
      "3");
  command->callback([o] { classify(*o); });
}

}  // namespace sepconv::cli
