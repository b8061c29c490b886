#include <algorithm>

#include "base/check.h"
#include "index/core.h"

namespace warmpath::index {
namespace {

// Blocks taken off the end of a run at a time.
constexpr uint32_t kFewest = 16, kMost = 512;
constexpr uint64_t kBlockBytes = 24;
constexpr uint32_t kSweepEffort = 1024;

}  // namespace

void Core::SetNext(RunId id, RunId next) {
  if (id < runs.max_runs()) {
    runs[id].queue_next = next;
  } else {
    ends_[id - runs.max_runs()].next = next;
  }
}

void Core::SetPrevious(RunId id, RunId previous) {
  if (id < runs.max_runs()) {
    runs[id].queue_previous = previous;
  } else {
    ends_[id - runs.max_runs()].previous = previous;
  }
}

void Core::Enqueue(RunId id) {
  Run& run = runs[id];
  if (run.children > 0 || run.Has(Run::kPinned) || run.Has(Run::kQueued)) return;
  const uint32_t now = tick;
  uint32_t at = std::min<uint32_t>(run.tick, now);
  run.queued_tick = at;
  if (now >= kQueues) at = std::max(at, now - kQueues + 1);
  oldest_ = std::min(oldest_, at);
  const RunId end = runs.max_runs() + at % kQueues;
  const RunId last = ends_[at % kQueues].previous;
  run.queue_previous = last;
  run.queue_next = end;
  SetNext(last, id);
  SetPrevious(end, id);
  run.Set(Run::kQueued);
}

void Core::Dequeue(RunId id) {
  Run& run = runs[id];
  if (!run.Has(Run::kQueued)) return;
  SetNext(run.queue_previous, run.queue_next);
  SetPrevious(run.queue_next, run.queue_previous);
  run.queue_previous = run.queue_next = 0;
  run.Unset(Run::kQueued);
}

// About a hundred ticks for as many blocks as there are: fine enough to tell what is used.
void Core::AdvanceTick(size_t stored) {
  stored_since_tick_ += stored;
  if (stored_since_tick_ <= stats.blocks / 128) return;
  stored_since_tick_ = 0;
  const uint32_t now = tick + 1;
  tick = now;
  if (now < kQueues) return;
  // The ring of this tick held the oldest runs: they go before the next oldest.
  Link& from = ends_[now % kQueues];
  Link& to = ends_[(now + 1) % kQueues];
  const RunId from_end = runs.max_runs() + now % kQueues;
  const RunId to_end = runs.max_runs() + (now + 1) % kQueues;
  if (from.next != from_end) {
    const RunId first = from.next, last = from.previous, follows = to.next;
    SetPrevious(first, to_end);
    SetNext(last, follows);
    SetPrevious(follows, last);
    to.next = first;
    from = {from_end, from_end};
  }
  oldest_ = std::max(oldest_, now - kQueues + 1);
}

RunId Core::Oldest() {
  for (const uint32_t now = tick; oldest_ <= now; ++oldest_) {
    const Link& ring = ends_[oldest_ % kQueues];
    if (ring.next < runs.max_runs()) return ring.next;
  }
  oldest_ = tick;
  return 0;
}

void Core::Pin(RunId id) {
  Dequeue(id);
  runs[id].Set(Run::kPinned);
}

void Core::Unpin(RunId id) {
  runs[id].Unset(Run::kPinned);
  Enqueue(id);
  Trim(id);
}

void Core::Shrink(Run& strand) {
  const uint32_t units = (strand.end - strand.base + Arena::kUnitWords - 1) / Arena::kUnitWords;
  if (units < strand.hash_units) {
    arena.Free(strand.hashes + units, strand.hash_units - units);
    strand.hash_units = static_cast<uint16_t>(units);
  }
  if (units < strand.key_units) {
    arena.Free(strand.keys + units, strand.key_units - units);
    strand.key_units = static_cast<uint16_t>(units);
  }
}

void Core::FreeStrand(RunId id) {
  Run& strand = runs[id];
  const Changing changing(RunOf(strand));  // what is given back may be overwritten at once
  coverage.Free(strand);
  if (strand.hash_units > 0) arena.Free(strand.hashes, strand.hash_units);
  if (strand.key_units > 0) arena.Free(strand.keys, strand.key_units);
  runs.Free(id);
}

void Core::FreeRun(RunId id) {
  Run& run = runs[id];
  Dequeue(id);
  heads.Erase(heads.Mix(run.head), {id, 0});
  if (run.Has(Run::kHasParent)) {
    if (runs[run.parent].hint == id) runs[run.parent].hint = 0;
  } else {
    absent.Remove(run.parent_key);
  }
  FreeStrand(id);
}

// Further strands end with a block that somebody covers; *end is behind all of them.
void Core::TrimStrands(Run& run, uint32_t* end) {
  for (RunId before = run.run, id = run.next_strand; id != 0; id = runs[before].next_strand) {
    Run& strand = runs[id];
    const uint32_t held = coverage.HeldEnd(strand);
    if (held == strand.base) {
      Changing changing(run);
      runs[before].next_strand = RunId{strand.next_strand};
      FreeStrand(id);
      continue;
    }
    if (held < strand.end) {
      Changing changing(run);
      coverage.Cut(strand, held);
      strand.end = static_cast<uint16_t>(held);
      Shrink(strand);
    }
    *end = std::max(*end, held);
    before = id;
  }
}

void Core::Trim(RunId id) {
  for (;;) {
    Run& run = runs[id];
    if (run.Has(Run::kPinned)) return;
    uint32_t end = run.children > 0 ? run.max_child + 1u : 0;
    if (!SingleStrand(run)) TrimStrands(run, &end);
    end = std::max(end, coverage.HeldEnd(run));
    if (end >= run.end && end > 0) return;
    if (end > 0) {
      Changing changing(run);
      coverage.Cut(run, end);
      run.end = static_cast<uint16_t>(end);
      Shrink(run);
      return;
    }
    const RunId parent = run.parent;
    FreeRun(id);
    if (parent == 0) return;
    Run& above = runs[parent];
    if (--above.children == 0) {
      above.max_child = 0;
      Enqueue(parent);
    }
    id = parent;
  }
}

bool Core::MakeRoom(uint64_t more) {
  // What nobody has any more goes before what somebody has.
  if (lanes.retired() > 0 && bytes() + more > run_budget_) Sweep(kSweepEffort);
  for (uint64_t used; (used = bytes()) + more > run_budget_;) {
    const RunId id = Oldest();
    if (id == 0) return false;
    Run& run = runs[id];
    const uint32_t matched = run.tick;
    if (matched != run.queued_tick) {
      Dequeue(id);
      Enqueue(id);
      if (run.queued_tick == matched) continue;
    }
    const uint64_t wanted = (used + more - run_budget_) / kBlockBytes;
    EvictFrom(id, static_cast<uint32_t>(std::clamp<uint64_t>(wanted, kFewest, kMost)));
  }
  return true;
}

void Core::EvictFrom(RunId id, uint32_t blocks) {
  Run& run = runs[id];
  const uint32_t keep = run.end > blocks ? run.end - blocks : 0;
  struct Part {
    RunId strand;
    Interval interval;
  };
  thread_local std::vector<Part> parts;
  parts.clear();
  bool whole = SingleStrand(run);
  for (RunId at = id; at != 0; at = runs[at].next_strand) {
    coverage.ForAll(runs[at], [&](LaneId lane, uint32_t from, uint32_t to) {
      if (to <= keep) return;
      parts.push_back({at, {lane, std::max(from, keep), to}});
      const HolderState* holder = lanes[lane].holder;
      whole &= holder == nullptr || holder->LanesIn(lanes[lane].tier) == 1;
    });
  }
  if (!whole) {
    for (const Part& part : parts) {
      const Interval& gone = part.interval;
      if (!coverage.Covers(runs[part.strand], gone.lane, gone.from)) continue;
      Uncover(gone.lane, part.strand, gone.from, gone.to, Ended::kBudget);
      lanes.DropIfEmpty(gone.lane);
    }
    Trim(id);
    return;
  }
  // One strand, and each lane counts for itself: who holds all of it goes on holding all of it.
  uint32_t held = keep;
  for (const Part& part : parts) {
    const Interval& gone = part.interval;
    lanes[gone.lane].blocks -= gone.to - gone.from;
    CountEnded(gone.lane, gone.to - gone.from, Ended::kBudget);
    ForgetExtraCopies(gone.lane, id, gone.from, gone.to);
  }
  const auto unname = [&](uint32_t from, uint32_t to) {
    Unname(id, from, to);
    stats.blocks -= to - from;
  };
  coverage.Gaps(run, keep, run.end, [&](uint32_t from, uint32_t to) {
    if (held < from) unname(held, from);
    held = to;
  });
  if (held < run.end) unname(held, run.end);
  if (keep > 0) {
    Changing changing(run);
    coverage.Cut(run, keep);
    run.end = static_cast<uint16_t>(keep);
    Shrink(run);
  } else {
    Changing changing(run);
    coverage.Free(run);
  }
  for (const Part& part : parts) lanes.DropIfEmpty(part.interval.lane);
  Trim(id);
}

}  // namespace warmpath::index
