#pragma once

#include <cstddef>
#include <list>
#include <utility>

namespace sepconv {

/// A large block of memory, uninitialised, given back to its cache at its end.
class Block {
 public:
  struct Memory {
    std::byte* data;
    std::size_t bytes;
  };

  explicit Block(std::list<Memory> memory) : memory_(std::move(memory)) {}
  Block(Block&&) = default;
  Block& operator=(Block&&) = delete;
  ~Block();

  std::byte* data() const { return memory_.front().data; }
  /// At least what was asked for.
  std::size_t bytes() const { return memory_.front().bytes; }

 private:
  // A node of the cache's list, so that giving it back cannot fail; none of what was moved from.
  std::list<Memory> memory_;
};

/// Keeps large blocks for those that ask next: pages from the system are cleared first, which takes
/// longer than most layers do, and a step of training asks for the same blocks as the one before.
/// Blocks in use and kept are together no more than 5/4 of the most that was ever in use. Any
/// thread may use it.
class BlockCache {
 public:
  /// Smaller ones are for the usual allocator. glibc takes those from 128 KiB on from the system,
  /// and gives them back, until it has seen larger ones.
  static constexpr std::size_t kLeastBytes = std::size_t{1} << 18;

  /// Throws std::bad_alloc.
  static Block take(std::size_t bytes);
  /// Bytes of the blocks that are kept for the next ones.
  static std::size_t kept_bytes();
  /// Gives those back to the system.
  static void clear();
  /// For a forked process: forgets what is kept, and a lock that another thread held.
  static void after_fork();
};

}  // namespace sepconv
