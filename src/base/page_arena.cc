#include "base/page_arena.h"

#include <algorithm>

#include "base/aligned.h"
#include "base/pages.h"
#include "base/sizes.h"

namespace sepconv {

namespace {

// Pages are the system's until they are written, so that a piece's unused end costs nothing.
constexpr std::size_t kPieceBytes = 16 * kHugePage;

}  // namespace

PageArena::Piece& PageArena::piece_with_room(std::size_t bytes) {
  const auto found = std::find_if(pieces_.begin(), pieces_.end(),
                                  [&](const Piece& p) { return p.size - p.used >= bytes; });
  if (found != pieces_.end()) return *found;
  const std::size_t size = std::max(kPieceBytes, divide_up(bytes, kHugePage) * kHugePage);
  const auto free = [size](std::byte* begin) { free_pages(begin, size); };
  return pieces_.emplace_back(Piece{{allocate_pages(size), free}, size, 0});
}

std::shared_ptr<float[]> PageArena::take(std::size_t count) {
  const std::size_t bytes = align_up(count * sizeof(float));
  Piece& piece = piece_with_room(bytes);
  auto* array = reinterpret_cast<float*>(piece.begin.get() + piece.used);
  piece.used += bytes;
  std::uninitialized_value_construct_n(array, count);
  return {piece.begin, array};
}

}  // namespace sepconv
