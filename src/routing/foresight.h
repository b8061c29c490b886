// Reads ahead in a large request body while it arrives, so that little is left to tokenize when its
// last byte is there. What comes of it is only what the encoder remembers: the whole body is read
// as if nothing had been seen of it.
//
// One per request body, on one loop; the work is done on the CPU pool, one piece at a time and only
// where a thread is free.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string_view>

#include "base/clock.h"
#include "prompt/request.h"
#include "routing/director.h"

namespace warmpath::routing {

class Foresight {
 public:
  // Bodies below are tokenized at once.
  static constexpr size_t kFirstBytes = 64 << 10;
  // Those that take no longer to arrive are not worth it.
  static constexpr Duration kSlow = std::chrono::milliseconds(20);

  // Has work done on another thread; false, and nothing is done, where that is not free now. As
  // CpuPool::TryRunNow, whose pool is stopped before the Director goes.
  using Runner = std::function<bool(std::function<void()> work)>;

  // `length`: of the whole body, 0 when it is not known.
  Foresight(const Director& director, Runner run, prompt::Api api, uint64_t length);
  // What has not begun yet is left undone.
  ~Foresight();
  Foresight(const Foresight&) = delete;
  Foresight& operator=(const Foresight&) = delete;

  // How much must have arrived for Look to be worth a call again. It does something once per 64 KiB
  // or quarter of what is there, whichever is more, so that all work together is linear; less often
  // where the text turns out to be known, and once more shortly before the end.
  size_t next() const { return next_; }
  // `begun`: all that has arrived. Copies what is new of it.
  void Look(std::string_view begun);
  // So many bytes of the body it holds, or will after Look.
  size_t HeldAfter(size_t begun) const;

 private:
  struct Begun;

  // The look under way has ended.
  void EndLook();

  const Director& director_;
  const Runner run_;
  const prompt::Api api_;
  const uint64_t length_;
  size_t next_ = kFirstBytes;
  bool looking_ = false;
  size_t looked_ = 0;  // at so many bytes, before the last look
  std::shared_ptr<Begun> begun_;
};

}  // namespace warmpath::routing
