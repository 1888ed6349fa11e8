#pragma once

#include <cstddef>
#include <functional>
#include <memory>

struct pthreadpool;

namespace sepconv {

/// Threads that work on one op or network at a time. How many there are changes no bit of a result.
class ThreadPool {
 public:
  /// `threads` ≥ 1; 1 runs everything in the calling thread. Throws ArgumentError otherwise.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  /// Calls task(context, i) for every i in [0, count), in any order, and returns when all are done.
  /// Tasks must not throw.
  void run(void (*task)(void*, std::size_t), void* context, std::size_t count) const;

  /// The same for a callable; it is not copied, nothing is allocated.
  template <class Task>
  void parallel_for(std::size_t count, const Task& task) const {
    run([](void* context, std::size_t i) { (*static_cast<const Task*>(context))(i); },
        const_cast<Task*>(&task), count);
  }

  /// A pool of the calling thread alone.
  static const ThreadPool& single();

 private:
  int threads_;
  struct Destroy {
    void operator()(pthreadpool* pool) const;
  };
  std::unique_ptr<pthreadpool, Destroy> pool_;
};

/// Number of processors that this process may use.
int available_processors();

}  // namespace sepconv
