// The recordings of real engines: after every message the index holds exactly what the recording
// implies, and what it predicts for each sequential request is what the engine then reported.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "base/units.h"
#include "events/applier.h"
#include "index/kv_index.h"
#include "kv/keys.h"
#include "kv/testing.h"

namespace warmpath::events {
namespace {

using codec::Find;
using codec::FindInt;
using codec::FindString;
using codec::Json;
using kv::testing::FromHex;
using kv::testing::ReadJsonLines;

// What a recording's readable view says is resident: references counted per (group, hash).
class Reference {
 public:
  void Apply(const Json& view) {
    for (const Json& event : view.get_array()[1].get_array()) {
      const bool map = event.is_object();
      const Json& tag = map ? *Find(event, "type") : event.get_array()[0];
      if (tag.get_string() == "AllBlocksCleared") {
        count_.clear();
        continue;
      }
      const bool stored = tag.get_string() == "BlockStored";
      const Json& hashes = map ? *Find(event, "block_hashes") : event.get_array()[1];
      for (const Json& hash : hashes.get_array()) {
        auto& count = count_[{Group(event, map, stored), Value(hash)}];
        count += stored ? 1 : -1;
        EXPECT_GE(count, 0);
      }
    }
  }
  std::set<uint64_t> Resident(uint32_t group) const {
    std::set<uint64_t> out;
    for (const auto& [key, count] : count_) {
      if (key.first == group && count > 0) out.insert(key.second);
    }
    return out;
  }

 private:
  static uint32_t Group(const Json& event, bool map, bool stored) {
    if (map) return static_cast<uint32_t>(FindInt(event, "group_idx").value_or(0));
    const auto& fields = event.get_array();
    const size_t at = stored ? 9 : 3;
    return at < fields.size() && fields[at].is_int64()
               ? static_cast<uint32_t>(fields[at].get_int64())
               : 0;
  }
  static uint64_t Value(const Json& hash) {
    if (!hash.is_object()) return hash.to_number<uint64_t>();
    const std::string bytes = FromHex(*FindString(hash, "bin"));
    uint64_t value = 0;
    for (const char c : bytes.substr(bytes.size() - 8))
      value = value << 8 | static_cast<uint8_t>(c);
    return value;
  }
  std::map<std::pair<uint32_t, uint64_t>, int> count_;
};

struct Recording {
  const char* dir;
  std::vector<const char*> events = {"events.jsonl"};
  uint32_t group = 0;  // the full-attention one
  bool predicts = true;
};

class Replayed {
 public:
  explicit Replayed(const Recording& recording) : recording_(recording) {
    const std::string dir = std::string(WARMPATH_TESTDATA "/golden/") + recording.dir + "/";
    for (size_t i = 0; i < recording.events.size(); ++i) {
      ranks_.emplace_back();
      Rank& rank = ranks_.back();
      rank.lines = ReadJsonLines(dir + recording.events[i]);
      rank.holder = {1, static_cast<uint16_t>(i)};
      rank.applier = std::make_unique<Applier>(index_, rank.holder, ApplierLimits{});
    }
    http_ = ReadJsonLines(dir + "http.jsonl");
    block_size_ = static_cast<uint32_t>(
        *FindInt(*codec::ParseJson(kv::testing::ReadFile(dir + "run.json")), "block_size"));
  }

  // Applies the messages of `source` up to and including number `last`, comparing after each.
  void ApplyUpTo(size_t source, size_t last) {
    Rank& rank = ranks_.at(source);
    for (; rank.applied < rank.lines.size() && rank.applied <= last; ++rank.applied) {
      const Json& line = rank.lines[rank.applied];
      const std::string payload =
          FromHex(std::string_view(Find(line, "frames")->get_array()[2].get_string()));
      const auto batch = reader_.Read(payload);
      ASSERT_TRUE(batch) << batch.error().message;
      rank.applier->Apply(batch->events, TimePoint());
      rank.reference.Apply(*Find(line, "view"));
      std::set<uint64_t> resident;
      for (const auto& alias : index_.Dump(rank.holder, recording_.group))
        resident.insert(alias.hash);
      ASSERT_EQ(resident, rank.reference.Resident(recording_.group))
          << "after message " << rank.applied;
      ++messages_;
    }
  }

  void Run() {
    bool reset_pending =
        false;  // the engine announces a reset with the next request's first events only
    for (const Json& line : http_) {
      const Json* request = Find(line, "request");
      if (request == nullptr)
        continue;  // concurrent requests: their events are applied with the next ones
      std::map<size_t, std::pair<size_t, size_t>>
          spans;  // source -> first and last message of this case
      for (const Json& event : Find(line, "events")->get_array()) {
        const auto source = static_cast<size_t>(*FindInt(event, "source"));
        const auto n = static_cast<size_t>(*FindInt(event, "n"));
        auto [it, added] = spans.try_emplace(source, n, n);
        it->second = {std::min(it->second.first, n), std::max(it->second.second, n)};
      }
      for (const auto& [source, span] : spans) {
        if (span.first > 0) ASSERT_NO_FATAL_FAILURE(ApplyUpTo(source, span.first - 1));
      }
      const auto path = *FindString(*request, "path");
      const Json* body = Find(*Find(line, "response"), "body");
      if (path.starts_with("/reset_prefix_cache") &&
          FindString(*body, "text").value_or("").find("\"success\":true") !=
              std::string_view::npos) {
        reset_pending = true;
      }
      if (path.starts_with("/sleep") || path.starts_with("/pause")) reset_pending = true;
      if (recording_.predicts) Predict(line, spans, reset_pending);
      if (!spans.empty()) reset_pending = false;
      for (const auto& [source, span] : spans)
        ASSERT_NO_FATAL_FAILURE(ApplyUpTo(source, span.second));
    }
    for (size_t source = 0; source < ranks_.size(); ++source)
      ASSERT_NO_FATAL_FAILURE(ApplyUpTo(source, SIZE_MAX));
    for (const Rank& rank : ranks_) {
      EXPECT_EQ(rank.applier->counts().bad_stores, 0u);
      EXPECT_EQ(rank.applier->orphan_blocks(), 0u);
      EXPECT_EQ(rank.applier->block_size(), block_size_);
    }
    EXPECT_EQ(index_.stats().unknown_removals, 0u);
  }

  int predicted() const { return predicted_; }
  int warm() const { return warm_; }
  size_t messages() const { return messages_; }
  bool hybrid() const { return ranks_[0].applier->hybrid(); }

 private:
  kv::EventBatchReader reader_;
  struct Rank {
    std::vector<Json> lines;
    size_t applied = 0;
    index::Holder holder;
    std::unique_ptr<Applier> applier;
    Reference reference;
  };

  void Predict(const Json& line, const std::map<size_t, std::pair<size_t, size_t>>& spans,
               bool reset_pending) {
    const Json* rendered = Find(line, "render_token_ids");
    const Json* cached = Find(line, "cached_tokens");
    if (rendered == nullptr || rendered->get_array().size() != 1 || cached == nullptr) return;
    if (FindInt(*Find(line, "response"), "status") != 200) return;
    const auto body = codec::ParseJson(*FindString(*Find(*Find(line, "request"), "body"), "text"));
    ASSERT_TRUE(body);
    const bool echo =
        codec::FindBool(*body, "echo").value_or(false) && Find(*body, "logprobs") != nullptr;
    if (echo || Find(*body, "prompt_logprobs") != nullptr || FindInt(*body, "n").value_or(1) > 1)
      return;
    const auto salt = FindString(*body, "cache_salt").value_or("");
    if (!salt.empty() && std::string_view(recording_.dir) == "vllm-0.14.1/bs32")
      return;  // salts are not in its events
    std::vector<kv::TokenId> tokens;
    for (const Json& id : rendered->get_array()[0].get_array())
      tokens.push_back(static_cast<kv::TokenId>(id.get_int64()));
    const auto model = FindString(*body, "model").value_or("");
    const bool adapter = model == "sql" || model == "chat-ö";
    const auto keys =
        kv::PrefixKeys(kv::RootKey(block_size_, adapter ? model : "", salt), tokens, block_size_);
    const auto engine = static_cast<uint64_t>(cached->is_null() ? 0 : cached->get_int64());
    std::set<uint64_t>
        predictions;  // of the rank that served; of either when its events do not tell
    for (const Rank& rank : ranks_) {
      if (!spans.empty() && !spans.contains(rank.holder.rank)) continue;
      uint64_t resident = 0;
      for (const auto& match : index_.Match(keys)) {
        if (match.holder == rank.holder) resident = match.blocks;
      }
      if (reset_pending) resident = 0;
      predictions.insert(std::min<uint64_t>(resident, (tokens.size() - 1) / block_size_) *
                         block_size_);
    }
    EXPECT_TRUE(predictions.contains(engine)) << *FindString(line, "id") << ": engine " << engine
                                              << ", predicted " << *predictions.begin();
    ++predicted_;
    if (engine > 0) ++warm_;
  }

  const Recording recording_;
  index::KvIndex index_{uint64_t{1} << 30};
  std::vector<Rank> ranks_;
  std::vector<Json> http_;
  uint32_t block_size_ = 0;
  int predicted_ = 0;
  int warm_ = 0;
  size_t messages_ = 0;
};

TEST(Recordings, ResidentSetsAndPredictionsAreTheEngines) {
  struct Case {
    Recording recording;
    int predicted;  // at least
  };
  for (const Case& one : {Case{{"vllm-0.32.0/bs16"}, 80}, Case{{"vllm-0.32.0/bs64"}, 40},
                          Case{{"vllm-0.32.0/bs32raw"}, 15}, Case{{"vllm-0.32.0/xxh"}, 15},
                          Case{{"vllm-0.32.0/dp2", {"events_0.jsonl", "events_1.jsonl"}}, 15},
                          Case{{"vllm-0.23.0/bs32"}, 15}, Case{{"vllm-0.14.1/bs32"}, 15}}) {
    SCOPED_TRACE(one.recording.dir);
    Replayed replayed(one.recording);
    ASSERT_NO_FATAL_FAILURE(replayed.Run());
    EXPECT_GE(replayed.predicted(), one.predicted);
    EXPECT_GT(replayed.warm(), 3);
    EXPECT_GT(replayed.messages(), 10u);
    EXPECT_FALSE(replayed.hybrid());
  }
}

TEST(Recordings, TheFullAttentionGroupOfAHybridModelIsExact) {
  Replayed replayed({"vllm-0.32.0/gemma3", {"events.jsonl"}, 5, false});
  ASSERT_NO_FATAL_FAILURE(replayed.Run());
  EXPECT_TRUE(replayed.hybrid());
}

}  // namespace
}  // namespace warmpath::events
