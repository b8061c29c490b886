// Has a request body that takes a while to arrive looked into meanwhile (routing/foresight.h). Part
// of one exchange, on its loop. What it holds counts against what all bodies together may hold.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "base/clock.h"
#include "extproc/body_buffer.h"
#include "extproc/server.h"
#include "routing/foresight.h"

namespace warmpath::extproc {

class SlowBody {
 public:
  // Both outlive it.
  SlowBody(const ExtProcDeps& deps, ByteBudget& budget) : deps_(deps), budget_(budget) {}
  ~SlowBody() { budget_.Return(held_); }
  SlowBody(const SlowBody&) = delete;
  SlowBody& operator=(const SlowBody&) = delete;

  // Another part of the body has arrived, and not the last. `length`: of the whole, 0 when it is
  // not known.
  void OnPart(const BodyBuffer& body, prompt::Api api, uint64_t length);

 private:
  const ExtProcDeps& deps_;
  ByteBudget& budget_;
  size_t next_ = routing::Foresight::kFirstBytes;
  size_t held_ = 0;
  std::optional<TimePoint> began_;  // when so much was there
  std::optional<routing::Foresight> foresight_;
};

}  // namespace warmpath::extproc
