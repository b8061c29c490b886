// The order of one publisher's batches: what is next, what was seen already, what is missing, and
// whether the engine started anew.
//
// vLLM numbers batches from 0 per process and names no process, so a number that was used before is
// a repeat when the bytes are the same and a restart when they are not. Confined to the publisher's
// thread.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

namespace warmpath::events {

class SequenceTracker {
 public:
  enum class Verdict {
    kApply,      // the next one, or the first one ever
    kDuplicate,  // seen, or given up as lost
    kGap,        // batches between the last one and this are missing
    kRestart,    // another process counts again
  };

  // `digest` stands for the payload's bytes.
  Verdict Judge(uint64_t sequence, uint64_t digest) const;
  void Applied(uint64_t sequence, uint64_t digest);
  // Batches [from, to] will not come; should they come late, they are duplicates.
  void GaveUp(uint64_t from, uint64_t to);
  void Reset();

  bool started() const { return last_ >= 0; }
  int64_t last() const { return last_; }  // -1 before the first
  // Whether `sequence` had these bytes; nullopt when it is not remembered.
  std::optional<bool> Same(uint64_t sequence, uint64_t digest) const;

 private:
  static constexpr size_t kRemembered = 256;
  struct Seen {
    uint64_t sequence = ~uint64_t{0};
    uint64_t digest = 0;
  };

  int64_t last_ = -1;
  uint64_t lost_from_ = 1;  // empty range
  uint64_t lost_to_ = 0;
  std::array<Seen, kRemembered> seen_{};
};

}  // namespace warmpath::events
