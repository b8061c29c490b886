#include "routing/record.h"

#include <atomic>
#include <cmath>

namespace warmpath::routing {
namespace {

size_t ListBytes(const Record& record) {
  return record.verdicts.capacity() * sizeof(Record::Verdict) +
         record.scores.capacity() * sizeof(double);
}

codec::JsonObject WeightsToJson(const DecisionRecord& record) {
  codec::JsonObject out;
  if (record.weights == nullptr) return out;
  for (const auto& [name, value] : *record.weights) out[name] = value;
  return out;
}

codec::JsonObject ScoresToJson(const DecisionRecord& record, size_t endpoint) {
  codec::JsonObject out;
  for (const ScorerScores& score : record.scores) {
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
  if (record.unseen) out["answer_unseen"] = true;
  out["attempts"] = record.attempts;
  out["delivered_cached_tokens"] = OrNull(record.delivered_cached_tokens);
  out["delivered_prompt_tokens"] = OrNull(record.delivered_prompt_tokens);
  out["delivered_output_tokens"] = OrNull(record.delivered_output_tokens);
  out["first_byte_ms"] = OrNull(record.first_byte_ms);
  out["total_ms"] = OrNull(record.total_ms);
  return out;
}

DecisionRecord Record::Read() const {
  DecisionRecord out;
  out.request_id = request_id;
  out.model = model;
  out.target_model = target_model;
  out.rewrite = rewrite;
  out.priority = priority;
  out.prompt_tokens = prompt_tokens;
  out.tokens_note = tokens_note;
  out.at = at;
  out.decision_ms = decision_ms;
  out.endpoints.reserve(verdicts.size());
  for (const Verdict& verdict : verdicts) {
    const EndpointName& name = *(*roster)[verdict.place];
    EndpointVerdict& read = out.endpoints.emplace_back();
    read.name = name.name;
    read.url = name.url;
    read.rank = verdict.rank;
    read.block_size = verdict.block_size;
    read.matched_blocks = verdict.matched_blocks;
    read.cached_tokens = uint64_t{verdict.usable_blocks} * verdict.block_size;
    read.expected_cached_tokens = uint64_t{verdict.expected_usable_blocks} * verdict.block_size;
    if (!std::isnan(verdict.total)) read.total = verdict.total;
    if (verdict.filter > 0) read.filtered_by = names->filters[verdict.filter - 1];
  }
  if (names != nullptr) {
    out.weights = std::shared_ptr<const Weights>(names, &names->weights);
    auto row = scores.begin();
    for (const auto& [plugin, weight] : names->weights) {
      const auto end = row + static_cast<ptrdiff_t>(verdicts.size());
      out.scores.push_back({plugin, {row, end}});
      row = end;
    }
  }
  MutexLock lock(mutex);
  out.chosen = !chosen.empty()           ? chosen
               : chosen_place == kNobody ? ""
                                         : (*roster)[chosen_place]->name;
  out.status = status;
  out.aborted = aborted;
  out.unseen = unseen;
  out.attempts = attempts;
  out.delivered_cached_tokens = delivered_cached_tokens;
  out.delivered_prompt_tokens = delivered_prompt_tokens;
  out.delivered_output_tokens = delivered_output_tokens;
  out.first_byte_ms = first_byte_ms;
  out.total_ms = total_ms;
  return out;
}

// The lock is for the order of memory: whoever had the record before looked at it, or wrote to it,
// under it last.
void Record::Clear() {
  MutexLock lock(mutex);
  request_id.clear();
  model.clear();
  target_model.clear();
  rewrite.clear();
  tokens_note.clear();
  priority = 0;
  prompt_tokens = 0;
  names.reset();
  roster.reset();
  verdicts.clear();
  scores.clear();
  chosen_place = kNobody;
  at = {};
  decision_ms = 0;
  chosen.clear();
  status = 0;
  aborted = unseen = false;
  attempts = 1;
  delivered_cached_tokens.reset();
  delivered_prompt_tokens.reset();
  delivered_output_tokens.reset();
  first_byte_ms.reset();
  total_ms.reset();
}

std::shared_ptr<Record> RecordStore::Add(std::shared_ptr<Record> record) {
  const size_t bytes = EstimateBytes(*record);
  const size_t hash = std::hash<std::string>()(record->request_id);
  std::vector<std::shared_ptr<Record>> forgotten;  // freed without the lock
  std::shared_ptr<Record> last;
  {
    MutexLock lock(mutex_);
    bytes_ += bytes + RosterBytes(*record, newest_last_.empty() ? nullptr
                                                                : newest_last_.back().record.get());
    newest_last_.push_back({hash, bytes, std::move(record)});
    while (newest_last_.size() > max_records_ || (bytes_ > max_bytes_ && newest_last_.size() > 1)) {
      Kept& oldest = newest_last_.front();
      const Record* const next = newest_last_.size() > 1 ? newest_last_[1].record.get() : nullptr;
      bytes_ -= oldest.bytes + RosterBytes(*oldest.record, next);
      if (last != nullptr) forgotten.push_back(std::move(last));
      last = std::move(oldest.record);
      newest_last_.pop_front();
    }
  }
  // Who looks for records finds this one no more: one user stays one.
  if (last == nullptr || last.use_count() != 1 || ListBytes(*last) > 2 * bytes) return nullptr;
  std::atomic_thread_fence(std::memory_order_acquire);  // with whoever had it last
  last->Clear();
  return last;
}

std::optional<DecisionRecord> RecordStore::Find(const std::string& request_id) const {
  const size_t hash = std::hash<std::string>()(request_id);
  std::shared_ptr<const Record> found;
  {
    MutexLock lock(mutex_);
    for (auto it = newest_last_.rbegin(); it != newest_last_.rend() && found == nullptr; ++it) {
      if (it->id_hash == hash && it->record->request_id == request_id) found = it->record;
    }
  }
  if (found == nullptr) return std::nullopt;
  return found->Read();
}

std::vector<DecisionRecord> RecordStore::Newest(size_t count) const {
  std::vector<std::shared_ptr<const Record>> newest;
  {
    MutexLock lock(mutex_);
    for (auto it = newest_last_.rbegin(); it != newest_last_.rend() && newest.size() < count; ++it)
      newest.push_back(it->record);
  }
  std::vector<DecisionRecord> out;
  out.reserve(newest.size());
  for (const auto& record : newest) out.push_back(record->Read());
  return out;
}

// Constant over a record's life: only what Decide fills in counts.
size_t RecordStore::EstimateBytes(const Record& record) {
  return sizeof(Record) + record.request_id.size() + record.model.size() +
         record.target_model.size() + record.tokens_note.size() + 128 +
         record.verdicts.size() * sizeof(Record::Verdict) + record.scores.size() * sizeof(double);
}

size_t RecordStore::RosterBytes(const Record& record, const Record* neighbour) {
  if (record.roster == nullptr) return 0;
  if (neighbour != nullptr && neighbour->roster == record.roster) return 0;
  return record.roster->size() * (sizeof(Roster::value_type) + sizeof(EndpointName));
}

}  // namespace warmpath::routing
