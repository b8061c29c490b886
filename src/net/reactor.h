// Internal to net: readiness of the sockets of one loop by epoll, and work deferred to the end of
// the turn at hand. Loop-confined but for Wake.
//
// A socket is registered once, edge-triggered, for everything; what is known of it is remembered
// here, so that waiting for it again costs no system call (docs/adr/0013-own-reactor.md).
#pragma once

#include <boost/system/error_code.hpp>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "base/clock.h"
#include "net/inline_function.h"

namespace warmpath::net {

using boost::system::error_code;

class Reactor {
 public:
  enum Kind : uint8_t { kRead, kWrite, kError, kKinds };
  using Waiter = InlineFunction<void(const error_code&)>;
  using Work = InlineFunction<void()>;

  // A descriptor and who waits for it. Made by Add, given back by Remove.
  struct Watch {
    int fd = -1;
    bool ready[kKinds] = {};
    bool ended = false;  // the peer will send no more: reading never exhausts
    bool queued = false;
    bool removed = false;
    uint32_t index = 0;  // in watches_
    Waiter waiters[kKinds];
  };

  Reactor();
  ~Reactor();  // drops every waiter and all work
  Reactor(const Reactor&) = delete;
  Reactor& operator=(const Reactor&) = delete;

  // `fd` is non-blocking and stays the caller's.
  Watch* Add(int fd);
  // Before the descriptor is closed. Waiters are dropped, not called, when the turn is over.
  void Remove(Watch* watch);
  // Calls `waiter` once, never from in here. At most one per kind: a second replaces the first.
  void Wait(Watch& watch, Kind kind, Waiter waiter);
  void Cancel(Watch& watch);

  // Runs `work` before the next wait for sockets.
  void Defer(Work work) { work_.push_back(std::move(work)); }

  // Waits for sockets until `until` (nullopt: for ever) unless there is something to do at once,
  // then calls who waited and runs what was deferred. True: Wake was called.
  bool Turn(std::optional<TimePoint> until);
  // Any thread: ends the wait at hand, or the next.
  void Wake();

 private:
  void Fire(Watch& watch);
  int WaitForEvents(std::optional<TimePoint> until, void* events, int capacity);
  void RunDeferred();
  void Bury();

  int epoll_ = -1;
  int wake_ = -1;
  bool wake_seen_ = false;
  std::vector<std::unique_ptr<Watch>> watches_;
  std::vector<std::unique_ptr<Watch>> removed_;  // events of the turn at hand may name them
  std::vector<Watch*> ready_;                    // with waiters that need not wait
  std::vector<Work> work_;
  std::vector<Waiter> dropped_;
  // What is being gone through of the three above.
  std::vector<Watch*> ready_now_;
  std::vector<Work> work_now_;
  std::vector<Waiter> dropped_now_;
};

}  // namespace warmpath::net
