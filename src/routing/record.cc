#include "routing/record.h"

#include <cmath>

namespace warmpath::routing {
namespace {

codec::JsonObject WeightsToJson(const DecisionRecord& record) {
  codec::JsonObject out;
  if (record.weights == nullptr) return out;
  for (const auto& [name, value] : *record.weights) out[name] = value;
  return out;
}

codec::JsonObject ScoresToJson(const DecisionRecord& record, size_t endpoint) {
  codec::JsonObject out;
  for (const scheduling::PluginScore& score : record.scores) {
    if (!std::isnan(score.scores[endpoint])) out[score.plugin] = score.scores[endpoint];
  }
  return out;
}

template <typename T>
codec::Json OrNull(const std::optional<T>& value) {
  return value ? codec::Json(*value) : codec::Json(nullptr);
}

codec::JsonObject ToJson(const DecisionRecord& record, size_t endpoint) {
  const EndpointVerdict& verdict = record.endpoints[endpoint];
  codec::JsonObject out;
  out["name"] = verdict.name;
  out["url"] = verdict.url;
  out["rank"] = verdict.rank;
  out["block_size"] = verdict.block_size;
  out["matched_blocks"] = verdict.matched_blocks;
  out["cached_tokens"] = verdict.cached_tokens;
  out["expected_cached_tokens"] = verdict.expected_cached_tokens;
  out["scores"] = ScoresToJson(record, endpoint);
  out["total"] = OrNull(verdict.total);
  out["filtered_by"] =
      verdict.filtered_by.empty() ? codec::Json(nullptr) : codec::Json(verdict.filtered_by);
  return out;
}

}  // namespace

codec::JsonObject ToJson(const DecisionRecord& record, bool delivered) {
  codec::JsonObject out;
  if (delivered) out["request_id"] = record.request_id;
  out["model"] = record.model;
  out["target_model"] = record.target_model;
  out["priority"] = record.priority;
  out["prompt_tokens"] = record.prompt_tokens;
  out["tokens_note"] =
      record.tokens_note.empty() ? codec::Json(nullptr) : codec::Json(record.tokens_note);
  out["weights"] = WeightsToJson(record);
  codec::JsonArray endpoints;
  for (size_t i = 0; i < record.endpoints.size(); ++i) endpoints.push_back(ToJson(record, i));
  out["endpoints"] = std::move(endpoints);
  out["chosen"] = record.chosen.empty() ? codec::Json(nullptr) : codec::Json(record.chosen);
  out["decision_ms"] = record.decision_ms;
  if (!delivered) return out;
  out["at"] = std::chrono::duration<double>(record.at.time_since_epoch()).count();
  out["status"] = record.status == 0 ? codec::Json(nullptr) : codec::Json(record.status);
  out["aborted"] = record.aborted;
  out["attempts"] = record.attempts;
  out["delivered_cached_tokens"] = OrNull(record.delivered_cached_tokens);
  out["delivered_prompt_tokens"] = OrNull(record.delivered_prompt_tokens);
  out["delivered_output_tokens"] = OrNull(record.delivered_output_tokens);
  out["first_byte_ms"] = OrNull(record.first_byte_ms);
  out["total_ms"] = OrNull(record.total_ms);
  return out;
}

void RecordStore::Add(std::shared_ptr<DecisionRecord> record) {
  MutexLock lock(mutex_);
  bytes_ += EstimateBytes(*record);
  by_id_[record->request_id] = record;
  newest_last_.push_back(std::move(record));
  while (newest_last_.size() > max_records_ || (bytes_ > max_bytes_ && newest_last_.size() > 1)) {
    const auto& oldest = newest_last_.front();
    bytes_ -= EstimateBytes(*oldest);
    const auto it = by_id_.find(oldest->request_id);
    // The id may belong to a newer record of the same name.
    if (it != by_id_.end() && it->second == oldest) by_id_.erase(it);
    newest_last_.pop_front();
  }
}

std::optional<DecisionRecord> RecordStore::Find(const std::string& request_id) const {
  MutexLock lock(mutex_);
  const auto it = by_id_.find(request_id);
  if (it == by_id_.end()) return std::nullopt;
  return *it->second;
}

std::vector<DecisionRecord> RecordStore::Newest(size_t count) const {
  MutexLock lock(mutex_);
  std::vector<DecisionRecord> out;
  for (auto it = newest_last_.rbegin(); it != newest_last_.rend() && out.size() < count; ++it) {
    out.push_back(**it);
  }
  return out;
}

// Constant over a record's life: only what Decide fills in counts.
size_t RecordStore::EstimateBytes(const DecisionRecord& record) {
  size_t bytes =
      sizeof(DecisionRecord) + record.request_id.size() * 2 + record.model.size() * 2 + 128;
  for (const EndpointVerdict& verdict : record.endpoints) {
    bytes += sizeof verdict + verdict.name.size() + verdict.url.size();
  }
  for (const scheduling::PluginScore& score : record.scores) {
    bytes += sizeof score + score.plugin.size() + score.scores.size() * sizeof(double);
  }
  return bytes;
}

}  // namespace warmpath::routing
