// Internal to net: what a Loop is made of.
#pragma once

#include <array>
#include <atomic>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "base/mutex.h"
#include "net/body_buffers.h"
#include "net/deadline_wheel.h"
#include "net/loop.h"
#include "net/reactor.h"
#include "net/resolver.h"
#include "net/tcp_socket.h"

namespace warmpath::net {

struct TimerState;

// Exact timers of one loop. Shared with the handles, so that a handle may outlive its loop.
class TimerQueue : public std::enable_shared_from_this<TimerQueue> {
 public:
  using Entries = std::multimap<TimePoint, std::shared_ptr<TimerState>>;

  std::shared_ptr<TimerState> Add(Duration delay, Duration period, std::function<void()> fire);
  void Remove(TimerState& state);
  void FireDue();
  void Shutdown();  // drops all
  std::optional<TimePoint> due() const;

 private:
  Entries entries_;
};

struct TimerState {
  std::weak_ptr<TimerQueue> queue;
  TimerQueue::Entries::iterator at;
  bool queued = false;
  bool cancelled = false;
  Duration period{};
  std::function<void()> fire;
};

struct Loop::Impl {
  explicit Impl(std::string loop_name);
  ~Impl();

  void Run();
  void RunPosted() EXCLUDES(mutex);
  void TurnWheel();
  std::optional<TimePoint> NextDue() const;

  const std::string name;
  DeadlineWheel wheel;  // before the reactor: what waits there owns deadlines
  Reactor reactor;
  std::shared_ptr<TimerQueue> timers;
  // What a socket's bytes are read into; valid until the handler that read them returns.
  std::array<char, 64 << 10> scratch;
  std::string plaintext;  // of ciphertext in scratch; valid as long
  BodyBuffers bodies;
  std::vector<std::string> spare_outputs;  // empty, with room: for who has something to send

  enum class State { kNew, kRunning, kStopped };
  std::atomic<State> state{State::kNew};
  std::thread thread;
  std::atomic<std::thread::id> thread_id{};

  Mutex mutex;
  std::vector<std::function<void()>> posted GUARDED_BY(mutex);
  bool wake_pending GUARDED_BY(mutex) = false;
  bool closed GUARDED_BY(mutex) = false;

  Resolver resolver;  // last: its thread posts here until it has ended
};

}  // namespace warmpath::net
