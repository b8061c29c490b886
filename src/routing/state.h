// What the Director and its open outcomes share. Internal to routing.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "routing/director.h"
#include "routing/metrics.h"

namespace warmpath::routing {

struct DirectorState {
  DirectorState(DirectorDeps dependencies, const DirectorOptions& opts)
      : deps(dependencies),
        options(opts),
        metrics(deps.metrics),
        records(opts.max_records, opts.max_record_bytes),
        last_beat(deps.clock.Now()) {}

  const DirectorDeps deps;
  const DirectorOptions options;
  RoutingMetrics metrics;
  RecordStore records;

  // Speculative blocks whose request ended, and when to let go of them.
  struct DueHold {
    TimePoint at;
    index::HoldId hold;
  };
  Mutex due_mutex;
  std::deque<DueHold> due_holds GUARDED_BY(due_mutex);  // in order of time
  TimePoint last_beat GUARDED_BY(due_mutex);
  // What of the index's counters the metrics have already been given.
  uint64_t admissions_shown GUARDED_BY(due_mutex) = 0;
  uint64_t evictions_shown GUARDED_BY(due_mutex) = 0;

  Mutex prediction_mutex;
  std::unordered_map<fleet::EndpointId, PredictionStats> predictions GUARDED_BY(prediction_mutex);

  SharedMutex encoder_mutex;
  std::shared_ptr<const prompt::Encoder> encoder GUARDED_BY(encoder_mutex);
  std::string encoder_model GUARDED_BY(encoder_mutex);
  std::string encoder_note GUARDED_BY(encoder_mutex) = "no tokenizer loaded yet";

  Mutex lookup_mutex;
  Director::LookupStats lookup GUARDED_BY(lookup_mutex);

  void ReleaseAfterGrace(const std::vector<index::HoldId>& holds) {
    MutexLock lock(due_mutex);
    for (const index::HoldId hold : holds) {
      due_holds.push_back({deps.clock.Now() + options.hold_grace, hold});
    }
  }
};

struct OutcomeState {
  std::shared_ptr<DirectorState> director;
  std::shared_ptr<const fleet::Endpoint> endpoint;
  uint16_t rank = 0;
  std::string model;
  bool stream = false;
  bool tokens_known = false;
  uint64_t prompt_tokens = 0;  // ours; 0 when unknown
  uint64_t predicted_cached = 0;
  fleet::InflightLoad load_at_decision;
  TimePoint started{};
  TimePoint decided{};
  fleet::InflightTicket ticket;
  std::vector<index::HoldId> holds;
  std::shared_ptr<DecisionRecord> record;
  bool first_token_seen = false;
  bool usage_seen = false;
  bool ended = false;
};

}  // namespace warmpath::routing
