#pragma once

#include <cstddef>
#include <memory>
#include <vector>

namespace sepconv {

/// Arrays side by side on huge pages, for numbers that every call reads: a network's weights are
/// some 20 MB, or 5,000 pages of the usual size, of which a core remembers 3,000, and looking one
/// up again takes longest in a virtual machine.
class PageArena {
 public:
  /// `count` floats on a 64-byte boundary, zeroed. They may outlive the arena. Throws
  /// std::bad_alloc.
  std::shared_ptr<float[]> take(std::size_t count);

 private:
  struct Piece {
    std::shared_ptr<std::byte> begin;
    std::size_t size, used;  ///< in bytes
  };

  Piece& piece_with_room(std::size_t bytes);

  std::vector<Piece> pieces_;
};

}  // namespace sepconv
