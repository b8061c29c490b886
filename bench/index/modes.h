// What index_bench can do with an index::KvIndex; every mode prints one JSON object on stdout.
#pragma once

#include <cstdint>

#include "corpus.h"
#include "index/kv_index.h"

namespace warmpath::bench {

struct ModeOptions {
  uint64_t budget_bytes = uint64_t{4} << 30;
  double seconds = 0;                // of measuring; 0: 20 for concurrency, at most 60 for fill
  uint64_t fill_blocks = 100000000;  // fill: the goal
  uint32_t fill_endpoints = 4096;
  double memory_fraction = 0.6;  // fill: of MemAvailable
};

// Applies one store event as the events module does: the parent is looked up, then the blocks go
// in. False: the parent is not there.
inline bool Apply(index::KvIndex& index, const Corpus& corpus, const Event& event) {
  const index::Holder holder{event.endpoint, 0};
  index::Parent parent{kRootKey, 0};
  if (event.has_parent != 0) {
    const auto found = index.FindParent(holder, 0, event.parent);
    if (!found) return false;
    parent = *found;
  }
  index.Store(holder, index::Tier::kGpu, 0, parent, corpus.hashes(event), corpus.keys(event));
  return true;
}

// The whole workload, alone: what the peers' driver does too.
int RunWorkload(const Corpus& corpus, const ModeOptions& options);
// Lookups alone, beside a writer of the same index, and beside two controls.
int RunConcurrency(const Corpus& corpus, const ModeOptions& options);
// The trace into a budget of half of what it needs.
int RunEviction(const Corpus& corpus, const ModeOptions& options);
// Very many blocks of very many endpoints.
int RunFill(const ModeOptions& options);

}  // namespace warmpath::bench
