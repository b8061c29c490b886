#include "extproc/slow_body.h"

#include <functional>
#include <utility>

namespace warmpath::extproc {
namespace {

using routing::Foresight;

constexpr size_t kNever = static_cast<size_t>(-1);

}  // namespace

void SlowBody::OnPart(const BodyBuffer& body, prompt::Api api, uint64_t length) {
  const size_t size = body.size();
  if (size < next_) return;
  if (!foresight_) {
    const TimePoint now = deps_.clock.Now();
    if (!began_) began_ = now;
    if (now - *began_ < Foresight::kSlow) return;
    if (!deps_.director.Foresees(api)) {
      next_ = kNever;
      return;
    }
    foresight_.emplace(
        deps_.director,
        [pool = &deps_.pool](std::function<void()> work) {
          return pool->TryRunNow(std::move(work));
        },
        api, length);
  }
  const size_t needed = foresight_->HeldAfter(size);
  if (needed > held_) {
    if (!budget_.TakeSpare(needed - held_)) {
      next_ = kNever;
      return;
    }
    held_ = needed;
  }
  foresight_->Look(body.view());
  next_ = foresight_->next();
}

}  // namespace warmpath::extproc
