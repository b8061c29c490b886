// Decision records: why each request went where it went, kept for the newest requests, bounded in
// count and bytes.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "codec/json.h"
#include "scheduling/types.h"

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

// Immutable once made but for the delivered part, which the RecordStore guards.
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
  std::vector<scheduling::PluginScore> scores;
  std::string chosen;  // endpoint name, "" when none
  WallTime at{};
  double decision_ms = 0;  // prepare + decide

  // Delivered: filled in as the response is observed.
  int status = 0;  // HTTP status given to the client; 0 while under way
  bool aborted = false;
  int attempts = 1;
  std::optional<uint64_t> delivered_cached_tokens;
  std::optional<uint64_t> delivered_prompt_tokens;
  std::optional<uint64_t> delivered_output_tokens;
  std::optional<double> first_byte_ms;
  std::optional<double> total_ms;
};

// The explain API's shape (contract.md); with `delivered`, also the fields of a served request.
codec::JsonObject ToJson(const DecisionRecord& record, bool delivered);

// Newest `max_records` records and at most `max_bytes` (estimated) of them. Thread-safe.
class RecordStore {
 public:
  RecordStore(size_t max_records, size_t max_bytes)
      : max_records_(max_records), max_bytes_(max_bytes) {}

  // A record of the same id is replaced (a client reused its x-request-id).
  void Add(std::shared_ptr<DecisionRecord> record) EXCLUDES(mutex_);
  // Runs `change` on the record under the store's lock.
  template <typename Change>
  void Update(DecisionRecord& record, Change change) EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    change(record);
  }
  // A copy, nullopt when unknown or forgotten.
  std::optional<DecisionRecord> Find(const std::string& request_id) const EXCLUDES(mutex_);
  // Newest first.
  std::vector<DecisionRecord> Newest(size_t count) const EXCLUDES(mutex_);

 private:
  static size_t EstimateBytes(const DecisionRecord& record);

  const size_t max_records_;
  const size_t max_bytes_;
  mutable Mutex mutex_;
  std::deque<std::shared_ptr<DecisionRecord>> newest_last_ GUARDED_BY(mutex_);
  std::unordered_map<std::string, std::shared_ptr<DecisionRecord>> by_id_ GUARDED_BY(mutex_);
  size_t bytes_ GUARDED_BY(mutex_) = 0;
};

}  // namespace warmpath::routing
