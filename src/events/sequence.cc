#include "events/sequence.h"

namespace warmpath::events {

SequenceTracker::Verdict SequenceTracker::Judge(uint64_t sequence, uint64_t digest) const {
  if (!started()) return Verdict::kApply;
  const auto last = static_cast<uint64_t>(last_);
  if (sequence == last + 1) return Verdict::kApply;
  if (sequence > last) return Verdict::kGap;
  if (const auto same = Same(sequence, digest))
    return *same ? Verdict::kDuplicate : Verdict::kRestart;
  return sequence >= lost_from_ && sequence <= lost_to_ ? Verdict::kDuplicate : Verdict::kRestart;
}

void SequenceTracker::Applied(uint64_t sequence, uint64_t digest) {
  last_ = static_cast<int64_t>(sequence);
  seen_[sequence % kRemembered] = {sequence, digest};
}

void SequenceTracker::GaveUp(uint64_t from, uint64_t to) {
  lost_from_ = from;
  lost_to_ = to;
}

void SequenceTracker::Reset() {
  *this = SequenceTracker();
}

std::optional<bool> SequenceTracker::Same(uint64_t sequence, uint64_t digest) const {
  const Seen& seen = seen_[sequence % kRemembered];
  if (seen.sequence != sequence) return std::nullopt;
  return seen.digest == digest;
}

}  // namespace warmpath::events
