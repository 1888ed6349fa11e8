#pragma once

#include <cstddef>
#include <string>

namespace sepconv::cli {

/// A bar on stderr, drawn only if that is a terminal and there is more than one thing to do.
class Progress {
 public:
  explicit Progress(std::size_t total);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// `done` things are done and `what` is next.
  void show(std::size_t done, const std::string& what);
  /// Wipes the bar, so that a line can be printed in its place.
  void clear();

 private:
  std::size_t total_;
  bool active_;
};

}  // namespace sepconv::cli
