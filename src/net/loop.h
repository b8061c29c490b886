// Event loops: one thread, one Asio io_context each. Everything in net is confined to the loop it
// was made on.
//
// The surface of net is callbacks and plain types: no Asio header leaves this module (docs/adr), so
// the modules above compile fast, and a protocol above it is a state machine that tests drive
// without sockets.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"

namespace warmpath::net {

class Loop;

// Cancels its timer when destroyed or reset. Loop-confined. Movable; an empty handle does nothing.
class Timer {
 public:
  Timer() = default;
  Timer(Timer&&) noexcept = default;
  Timer& operator=(Timer&& other) noexcept;
  ~Timer();
  void Cancel();

 private:
  friend class Loop;
  std::shared_ptr<void> state_;
};

class Loop {
 public:
  explicit Loop(std::string name);
  ~Loop();  // stops
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Start();  // starts the thread
  // Ends the thread after the work at hand; what was posted and not yet run is dropped. Idempotent.
  // Not from the loop itself.
  void Stop();

  // Any thread. Runs `work` on the loop, in order of posting per thread.
  void Post(std::function<void()> work);
  // Any thread but the loop's: posts and waits until it ran.
  void Run(std::function<void()> work);
  // Loop thread only.
  [[nodiscard]] Timer After(Duration delay, std::function<void()> fire);
  [[nodiscard]] Timer Every(Duration period, std::function<void()> fire);
  bool InLoop() const;

  // Implementation access for net's own files: the io_context behind this loop.
  struct Impl;
  Impl& impl() { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

// Cores this process may run on, at least one.
size_t UsableCores();

// `count` loops, started together.
class LoopGroup {
 public:
  LoopGroup(std::string name, size_t count);
  ~LoopGroup();
  void Start();
  void Stop();
  size_t size() const { return loops_.size(); }
  Loop& at(size_t i) { return *loops_[i]; }

 private:
  std::vector<std::unique_ptr<Loop>> loops_;
};

}  // namespace warmpath::net
