#include "net/deadline_wheel.h"

#include <algorithm>
#include <utility>

#include "base/check.h"

namespace warmpath::net {

Deadline::Deadline(DeadlineWheel& wheel, std::function<void()> expired)
    : wheel_(&wheel), expired_(std::move(expired)) {}

Deadline::~Deadline() {
  if (slot_tick_ != 0) wheel_->Unlink(*this);
}

void Deadline::Set(Duration from_now) {
  const TimePoint now = wheel_->now_();
  // A wheel that stood still because it was empty has no slots to look at in between.
  if (wheel_->empty()) wheel_->current_tick_ = std::max(wheel_->current_tick_, wheel_->TickOf(now));
  due_tick_ = std::max(wheel_->TickOf(now + from_now) + 1, wheel_->current_tick_ + 1);
  if (slot_tick_ != 0) {
    if (slot_tick_ <= due_tick_) return;  // looked at early enough, and moved on then
    wheel_->Unlink(*this);
  }
  wheel_->Link(*this, due_tick_);
}

void Deadline::Clear() {
  due_tick_ = kNone;
}

DeadlineWheel::DeadlineWheel(TimePoint start)
    : start_(start), now_([] { return SystemClock().Now(); }) {}

DeadlineWheel::~DeadlineWheel() {
  WP_DCHECK(linked_ == 0);
}

uint64_t DeadlineWheel::TickOf(TimePoint t) const {
  return t <= start_ ? 0 : static_cast<uint64_t>((t - start_) / kTick);
}

void DeadlineWheel::Link(Deadline& deadline, uint64_t tick) {
  // Beyond the horizon: looked at when the wheel has gone round, and linked again.
  deadline.slot_tick_ = std::min(tick, current_tick_ + kSlots - 1);
  Deadline*& head = slots_[deadline.slot_tick_ % kSlots];
  deadline.previous_ = nullptr;
  deadline.next_ = head;
  if (head != nullptr) head->previous_ = &deadline;
  head = &deadline;
  if (linked_++ == 0 || deadline.slot_tick_ < next_tick_) next_tick_ = deadline.slot_tick_;
}

void DeadlineWheel::Unlink(Deadline& deadline) {
  Deadline*& head = slots_[deadline.slot_tick_ % kSlots];
  if (deadline.next_ != nullptr) deadline.next_->previous_ = deadline.previous_;
  if (deadline.previous_ != nullptr) {
    deadline.previous_->next_ = deadline.next_;
  } else {
    head = deadline.next_;
  }
  deadline.next_ = deadline.previous_ = nullptr;
  deadline.slot_tick_ = 0;
  --linked_;
}

void DeadlineWheel::Advance(TimePoint now) {
  const uint64_t target = TickOf(now);
  // More than one round behind: every slot is due for a look, once.
  if (target > current_tick_ + kSlots) current_tick_ = target - kSlots;
  while (current_tick_ < target && linked_ > 0) {
    ++current_tick_;
    Deadline*& head = slots_[current_tick_ % kSlots];
    while (head != nullptr) {
      Deadline& deadline = *head;
      Unlink(deadline);
      if (deadline.due_tick_ == Deadline::kNone) continue;
      if (deadline.due_tick_ > current_tick_) {
        Link(deadline, deadline.due_tick_);
        continue;
      }
      deadline.due_tick_ = Deadline::kNone;
      const auto expired = deadline.expired_;  // the callback may destroy its deadline
      expired();
    }
  }
  current_tick_ = std::max(current_tick_, target);
  if (linked_ == 0 || next_tick_ > current_tick_) return;
  next_tick_ = current_tick_ + 1;
  while (slots_[next_tick_ % kSlots] == nullptr) ++next_tick_;
}

}  // namespace warmpath::net
