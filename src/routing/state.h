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
#include "routing/matching.h"
#include "routing/metrics.h"
#include "routing/record.h"
#include "routing/unseen.h"
#include "routing/view.h"

namespace warmpath::routing {

// The tokenizer at work, of one model.
struct LoadedEncoder {
  std::shared_ptr<const prompt::Encoder> encoder;  // null: none, and `note` says why
  std::string model;
  std::string note;
};

struct DirectorState {
  DirectorState(DirectorDeps dependencies, const DirectorOptions& opts)
      : deps(dependencies),
        options(opts),
        metrics(deps.metrics),
        names(NamesOf(deps.scheduler)),
        records(opts.max_records, opts.max_record_bytes),
        last_beat(deps.clock.Now()) {}

  const DirectorDeps deps;
  const DirectorOptions options;
  RoutingMetrics metrics;
  const std::shared_ptr<const RecordNames> names;
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

  UnseenAnswers unseen;
  // Releases what is still booked of them.
  void Settle(const std::vector<UnseenAnswer>& ended, TimePoint now) EXCLUDES(due_mutex);

  Mutex prediction_mutex;
  std::unordered_map<fleet::EndpointId, PredictionStats> predictions GUARDED_BY(prediction_mutex);

  SharedMutex encoder_mutex;
  // Never null.
  std::shared_ptr<const LoadedEncoder> encoder GUARDED_BY(encoder_mutex) =
      std::make_shared<const LoadedEncoder>(LoadedEncoder{
          .encoder = nullptr, .model = {}, .note = "no tokenizer loaded yet"});
  std::shared_ptr<const LoadedEncoder> CurrentEncoder() EXCLUDES(encoder_mutex) {
    ReaderLock lock(encoder_mutex);
    return encoder;
  }
  void SetEncoder(LoadedEncoder loaded) EXCLUDES(encoder_mutex) {
    auto next = std::make_shared<const LoadedEncoder>(std::move(loaded));
    WriterLock lock(encoder_mutex);
    encoder.swap(next);
  }

  SharedMutex policies_mutex;
  std::shared_ptr<const Policies> policies GUARDED_BY(policies_mutex) =
      std::make_shared<const Policies>();
  std::shared_ptr<const Policies> CurrentPolicies() EXCLUDES(policies_mutex) {
    ReaderLock lock(policies_mutex);
    return policies;
  }

  ViewSources view_sources() const { return {deps.index, deps.events, deps.fleet.inflight()}; }
  // Read from the events manager by Tick, and by the first decision.
  Mutex view_mutex;
  std::shared_ptr<const FlowingEvents> flowing GUARDED_BY(view_mutex);
  TimePoint flowing_at GUARDED_BY(view_mutex){};
  std::shared_ptr<const View> view GUARDED_BY(view_mutex);
  std::shared_ptr<const View> CurrentView(TimePoint now) EXCLUDES(view_mutex);
  void RefreshFlowing() EXCLUDES(view_mutex);

  // Director::LookupStats.
  std::atomic<uint64_t> lookups{0};
  std::atomic<uint64_t> lookup_hits{0};
  std::atomic<uint64_t> lookup_count{0};
  std::atomic<int64_t> lookup_nanos{0};

  void ReleaseAfterGrace(const std::vector<index::HoldId>& holds, TimePoint now) {
    if (holds.empty()) return;
    MutexLock lock(due_mutex);
    for (const index::HoldId hold : holds) due_holds.push_back({now + options.hold_grace, hold});
  }
};

// An endpoint the scheduler named for a request.
struct Choice {
  std::shared_ptr<const fleet::Endpoint> endpoint;
  std::string address;
  uint16_t rank = 0;
  uint64_t expected_cached = 0;
  fleet::InflightLoad load;
  std::shared_ptr<const PromptKeys> keys;  // null when its blocks cannot be told
};

struct OutcomeState {
  std::shared_ptr<DirectorState> director;
  std::vector<Choice> choices;            // as picked, best first
  std::vector<std::string> destinations;  // of the choices, the first perhaps replaced by effects
  scheduling::PickEffects effects;
  // The record's places are its; let go of when the answer begins.
  std::shared_ptr<const fleet::Snapshot> snapshot;
  const RequestMetrics* metrics = nullptr;
  std::string target_model;
  std::shared_ptr<const fleet::Endpoint> endpoint;
  uint16_t rank = 0;
  bool stream = false;  // asked for, and once the head is known: answered
  bool tokens_known = false;
  std::optional<uint64_t> max_tokens;
  uint64_t prompt_tokens = 0;  // ours; 0 when unknown
  uint64_t predicted_cached = 0;
  fleet::InflightLoad load_at_decision;
  TimePoint started{};
  TimePoint decided{};
  fleet::InflightTicket ticket;
  std::vector<index::HoldId> holds;
  std::shared_ptr<Record> record;
  int status = 0;  // of the answer's head; 0 before it
  bool first_token_seen = false;
  bool usage_seen = false;
  TimePoint first_byte{};
  TimePoint last_chunk{};
  uint64_t response_bytes = 0;
  uint64_t output_tokens = 0;
  Duration processing{};  // spent on observing the answer
  uint32_t chunks = 0;
  bool ended = false;

  void ObserveDurations(TimePoint end) const;
  // Counts its blocks as on their way to `choice`.
  void HoldBlocks(const Choice& choice);
};

// As new; with the memory of one that has ended on this thread, where there is one.
std::unique_ptr<OutcomeState> NewOutcomeState();

}  // namespace warmpath::routing
