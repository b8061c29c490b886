#include "index/run.h"

#include <cstring>

namespace warmpath::index {

RunPool::RunPool(uint32_t max_runs)
    : max_runs_(max_runs), runs_(uint64_t{max_runs} * sizeof(Run)) {}

RunId RunPool::Allocate() {
  RunId id = free_;
  if (id != 0) {
    free_ = (*this)[id].queue_next;
  } else if (top_ < max_runs_) {
    id = top_++;
  } else {
    return 0;
  }
  ++used_;
  Run& run = (*this)[id];
  run.queue_next = 0;
  run.flags = Run::kLive;
  return id;
}

void RunPool::Free(RunId id) {
  Run& run = (*this)[id];
  Changing changing(run);
  run.keys = 0;
  run.head = 0;
  run.base = 0;
  run.end = 0;
  run.next_strand = 0;
  run.hint = 0;
  run.branch = 0;
  run.tick = 0;
  run.hashes = 0;
  run.parent_key = 0;
  run.run = run.parent = run.children = 0;
  run.parent_offset = run.max_child = 0;
  run.key_units = run.hash_units = run.flags = 0;
  run.queued_tick = run.queue_previous = 0;
  ++run.generation;
  run.queue_next = free_;
  free_ = id;
  --used_;
}

}  // namespace warmpath::index
