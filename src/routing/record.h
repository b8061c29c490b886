// Decision records: why each request went where it went, kept for the newest requests, bounded in
// count and bytes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "codec/json.h"
#include "fleet/endpoint.h"

namespace warmpath::routing {

using Weights = std::vector<std::pair<std::string, double>>;  // by plugin

struct EndpointVerdict {
  std::string name;
  std::string url;
  uint16_t rank = 0;
  uint32_t block_size = 0;              // 0: not known yet
  uint32_t matched_blocks = 0;          // resident, contiguous from block 0
  uint64_t cached_tokens = 0;           // what the engine can reuse of them
  uint64_t expected_cached_tokens = 0;  // counting what requests under way will have stored
  std::optional<double> total;          // absent when filtered out
  std::string filtered_by;              // plugin, "" when it stayed
};

struct ScorerScores {
  std::string plugin;
  std::vector<double> scores;
};

// A record as people read it.
struct DecisionRecord {
  std::string request_id;
  std::string model;
  std::string target_model;  // what the engine is asked for
  std::string rewrite;       // the InferenceModelRewrite that chose it, "" = none
  int32_t priority = 0;
  uint64_t prompt_tokens = 0;
  std::string tokens_note;                 // why exact tokens could not be had; "" when they could
  std::shared_ptr<const Weights> weights;  // of the scorers asked; never null in a decision's
  std::vector<EndpointVerdict> endpoints;
  // By scorer; its scores are by place in `endpoints`, NaN where it was not asked.
  std::vector<ScorerScores> scores;
  std::string chosen;  // endpoint name, "" when none
  WallTime at{};
  double decision_ms = 0;  // prepare + decide

  // Delivered: filled in as the response is observed.
  int status = 0;  // HTTP status given to the client; 0 while under way
  bool aborted = false;
  bool unseen = false;  // the answer went past this program: the rest stays empty
  int attempts = 1;
  std::optional<uint64_t> delivered_cached_tokens;
  std::optional<uint64_t> delivered_prompt_tokens;
  std::optional<uint64_t> delivered_output_tokens;
  std::optional<double> first_byte_ms;
  std::optional<double> total_ms;
};

// The explain API's shape (contract.md); with `delivered`, also the fields of a served request.
codec::JsonObject ToJson(const DecisionRecord& record, bool delivered);

// How records name an endpoint; outlives what it names.
struct EndpointName {
  fleet::EndpointId id = 0;
  std::string name;
  std::string url;
};
using Roster = std::vector<std::shared_ptr<const EndpointName>>;  // every endpoint of a snapshot

// Of the scheduler's plugins.
struct RecordNames {
  Weights weights;  // by scorer
  std::vector<std::string> filters;
};

// A record as it is kept: names are shared, texts are put together when somebody asks. What was
// decided is immutable once made; what was delivered is guarded by `mutex`.
struct Record {
  struct Verdict {
    uint32_t place = 0;  // in `roster`
    uint32_t block_size = 0;
    uint32_t matched_blocks = 0;
    uint32_t usable_blocks = 0;
    uint32_t expected_usable_blocks = 0;
    uint16_t rank = 0;
    uint16_t filter = 0;  // 1 + its number in RecordNames::filters; 0: it stayed
    double total = 0;     // NaN when filtered out
  };
  static constexpr uint32_t kNobody = UINT32_MAX;

  std::string request_id;
  std::string model;
  std::string target_model;
  std::string rewrite;
  std::string tokens_note;
  int32_t priority = 0;
  uint64_t prompt_tokens = 0;
  std::shared_ptr<const RecordNames> names;  // null: no scheduler was asked
  std::shared_ptr<const Roster> roster;      // null: there are no verdicts
  std::vector<Verdict> verdicts;
  std::vector<double> scores;  // of the first scorer by verdict, then of the second
  uint32_t chosen_place = kNobody;
  WallTime at{};
  double decision_ms = 0;

  mutable Mutex mutex;
  std::string chosen GUARDED_BY(mutex);  // another than chosen_place
  int status GUARDED_BY(mutex) = 0;
  bool aborted GUARDED_BY(mutex) = false;
  bool unseen GUARDED_BY(mutex) = false;
  int attempts GUARDED_BY(mutex) = 1;
  std::optional<uint64_t> delivered_cached_tokens GUARDED_BY(mutex);
  std::optional<uint64_t> delivered_prompt_tokens GUARDED_BY(mutex);
  std::optional<uint64_t> delivered_output_tokens GUARDED_BY(mutex);
  std::optional<double> first_byte_ms GUARDED_BY(mutex);
  std::optional<double> total_ms GUARDED_BY(mutex);

  DecisionRecord Read() const EXCLUDES(mutex);
  // As new, but for the memory of its texts and lists. Of a record that nobody else has.
  void Clear() EXCLUDES(mutex);
};

// Newest `max_records` records and at most `max_bytes` (estimated) of them. Thread-safe.
class RecordStore {
 public:
  RecordStore(size_t max_records, size_t max_bytes)
      : max_records_(max_records), max_bytes_(max_bytes) {}

  // A record that was forgotten for it, cleared for another decision; null when there is none that
  // nobody else has.
  std::shared_ptr<Record> Add(std::shared_ptr<Record> record) EXCLUDES(mutex_);
  // A copy of the newest of that id (a client may use its x-request-id again), nullopt when unknown
  // or forgotten. Looks through all of them.
  std::optional<DecisionRecord> Find(const std::string& request_id) const EXCLUDES(mutex_);
  // Newest first.
  std::vector<DecisionRecord> Newest(size_t count) const EXCLUDES(mutex_);

 private:
  struct Kept {
    size_t id_hash = 0;
    size_t bytes = 0;  // but for the roster
    std::shared_ptr<Record> record;
  };
  static size_t EstimateBytes(const Record& record);
  // What the roster of `record` adds beside a neighbour's, which may be null.
  static size_t RosterBytes(const Record& record, const Record* neighbour);

  const size_t max_records_;
  const size_t max_bytes_;
  mutable Mutex mutex_;
  std::deque<Kept> newest_last_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace warmpath::routing
