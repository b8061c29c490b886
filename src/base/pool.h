// A fixed set of threads for CPU work that would hold up an event loop (long tokenizations), behind
// a bounded queue. Thread-safe. Stop() finishes what was accepted; the destructor stops.
#pragma once

#include <cstddef>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"

namespace warmpath {

class CpuPool {
 public:
  CpuPool(std::string name, size_t threads, size_t max_queued);
  ~CpuPool();
  CpuPool(const CpuPool&) = delete;
  CpuPool& operator=(const CpuPool&) = delete;

  // False when the queue is full or the pool stopped; the work was then not taken and the caller
  // decides what to do instead.
  [[nodiscard]] bool TryRun(std::function<void()> work) EXCLUDES(mutex_);
  // For work that may as well be left undone: false too where no thread is free for it now.
  [[nodiscard]] bool TryRunNow(std::function<void()> work) EXCLUDES(mutex_);
  void Stop() EXCLUDES(mutex_);

 private:
  void Work(const std::string& name) EXCLUDES(mutex_);

  const size_t max_queued_;
  Mutex mutex_;
  CondVar changed_;
  std::deque<std::function<void()>> queue_ GUARDED_BY(mutex_);
  size_t free_ GUARDED_BY(mutex_) = 0;  // threads that wait, some perhaps for what is queued
  bool stopping_ GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

}  // namespace warmpath
