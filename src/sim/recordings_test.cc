// Plays the requests of the recordings through an engine core, with the tokens the real engine
// generated, and compares the event batches with the recorded ones: boundaries, order, hashes,
// parents and tokens.
#include <gtest/gtest.h>

#include <charconv>
#include <fstream>
#include <map>
#include <set>

#include "base/hash.h"
#include "codec/json.h"
#include "sim/engine_core.h"
#include "sim/event_wire.h"

namespace warmpath::sim {
namespace {

using codec::Find;
using codec::FindInt;
using codec::FindString;
using codec::Json;
using Tokens = std::vector<kv::TokenId>;

struct Event {
  std::string kind;
  std::vector<std::string> hashes;
  std::string parent;  // "" when nil
  Tokens tokens;
  friend bool operator==(const Event&, const Event&) = default;
};
using Batch = std::vector<Event>;

std::string ShapeOf(const Batch& batch) {
  std::string shape;
  for (const Event& event : batch) {
    shape += event.kind.substr(0, 6) == "BlockS"   ? "S" + std::to_string(event.hashes.size()) + " "
             : event.kind.substr(0, 6) == "BlockR" ? "R "
                                                   : "C ";
  }
  return shape;
}

std::vector<Json> ReadLines(const std::string& path) {
  std::ifstream in(path);
  EXPECT_TRUE(in) << path;
  std::vector<Json> lines;
  for (std::string line; std::getline(in, line);) {
    auto json = codec::ParseJson(line);
    if (!json) {
      ADD_FAILURE() << path << ": " << json.error().message;
      return {};
    }
    lines.push_back(std::move(*json));
  }
  return lines;
}

std::string HashText(const Json& value) {
  if (value.is_object()) return std::string(*FindString(value, "bin"));
  if (value.is_uint64()) return std::to_string(value.get_uint64());
  if (value.is_int64()) return std::to_string(static_cast<uint64_t>(value.get_int64()));
  return "";
}

Tokens ReadTokens(const Json& array) {
  Tokens tokens;
  for (const Json& token : array.as_array())
    tokens.push_back(static_cast<kv::TokenId>(token.to_number<int64_t>()));
  return tokens;
}

Event ReadEvent(const Json& json) {
  Event event;
  const Json *hashes = nullptr, *parent = nullptr, *tokens = nullptr;
  if (json.is_object()) {
    event.kind = *FindString(json, "type");
    hashes = Find(json, "block_hashes");
    parent = Find(json, "parent_block_hash");
    tokens = Find(json, "token_ids");
  } else {
    const auto& array = json.as_array();
    event.kind = std::string_view(array[0].as_string());
    if (array.size() > 1) hashes = &array[1];
    if (event.kind == "BlockStored") {
      parent = &array[2];
      tokens = &array[3];
    }
  }
  if (hashes != nullptr) {
    for (const Json& hash : hashes->as_array()) event.hashes.push_back(HashText(hash));
  }
  if (parent != nullptr) event.parent = HashText(*parent);
  if (tokens != nullptr) event.tokens = ReadTokens(*tokens);
  return event;
}

std::span<const uint8_t> AsBytes(const std::string& text) {
  return {reinterpret_cast<const uint8_t*>(text.data()), text.size()};
}

std::string FromHex(std::string_view hex) {
  std::string bytes;
  for (size_t i = 0; i + 1 < hex.size(); i += 2) {
    int value = 0;
    std::from_chars(hex.data() + i, hex.data() + i + 2, value, 16);
    bytes.push_back(static_cast<char>(value));
  }
  return bytes;
}

// The last integer member of that name in a body, whatever its form (JSON or SSE).
std::optional<int64_t> LastNumber(std::string_view text, std::string_view name) {
  const std::string key = "\"" + std::string(name) + "\":";
  const size_t at = text.rfind(key);
  if (at == std::string_view::npos) return std::nullopt;
  int64_t value = 0;
  const char* begin = text.data() + at + key.size();
  if (std::from_chars(begin, text.data() + text.size(), value).ec != std::errc())
    return std::nullopt;
  return value;
}

struct Recording {
  std::string folder;
  uint32_t blocks = 0;
  uint32_t ranks = 1;
  kv::HashAlgo algorithm = kv::HashAlgo::kSha256Cbor;
  std::string seed = "42";
  bool tagged = true;
  bool raw = false;
  bool reuse_empty_first = true;
  // How requests sent at once must have arrived, by their events, where not one before the first
  // step and the others during it.
  std::map<std::string, std::vector<size_t>> arrivals = {};
  // Compares the payload too, from the events on; nullopt: this release's form has fewer fields
  // than ours.
  std::optional<kv::EventFormat> format = kv::EventFormat::kMap;
};

std::string HashText(const BlockHash& hash, const Recording& recording) {
  return recording.raw ? Hex(hash) : std::to_string(Low64(hash, DigestSize(recording.algorithm)));
}

BlockHashFunction HashFunction(const Recording& recording) {
  return MakeBlockHash(recording.algorithm, recording.seed, recording.tagged);
}

class Player {
 public:
  explicit Player(const Recording& recording) : recording_(recording) {
    const std::string dir = std::string(WARMPATH_TESTDATA) + "/golden/" + recording.folder + "/";
    cases_ = ReadLines(dir + "http.jsonl");
    block_size_ = static_cast<uint32_t>(*FindInt(ReadRun(dir), "block_size"));
    for (uint32_t rank = 0; rank < recording.ranks; ++rank) {
      const std::string name =
          recording.ranks == 1 ? "events.jsonl" : "events_" + std::to_string(rank) + ".jsonl";
      auto& batches = recorded_.emplace_back();
      auto& payloads = payloads_.emplace_back();
      for (const Json& line : ReadLines(dir + name)) {
        Batch batch;
        for (const Json& event : Find(line, "view")->as_array()[1].as_array())
          batch.push_back(ReadEvent(event));
        batches.push_back(std::move(batch));
        payloads.push_back(FromHex(Find(line, "frames")->as_array()[2].as_string()));
      }
      CoreOptions options;
      options.blocks = recording.blocks;
      options.block_size = block_size_;
      options.max_num_seqs = 8;
      options.max_num_batched_tokens = 512;
      options.max_loras = 2;
      options.hash = HashFunction(recording);
      options.reuse_empty_first = recording.reuse_empty_first;
      cores_.push_back(std::make_unique<EngineCore>(options));
    }
    cursor_.resize(recording.ranks);
    synced_ = true;
  }

  static Json ReadRun(const std::string& dir) {
    std::ifstream in(dir + "run.json");
    std::string text((std::istreambuf_iterator<char>(in)), {});
    return *codec::ParseJson(text);
  }

  // Ids of the cases whose batches were not compared or differed.
  std::vector<std::string> left_out;
  size_t matched = 0;
  size_t total() const {
    size_t n = 0;
    for (const auto& batches : recorded_) n += batches.size();
    return n;
  }

  void PlayAll() {
    for (const Json& item : cases_) Play(item);
  }

 private:
  struct Plan {
    std::vector<CoreRequest> requests;
    std::optional<size_t> stop_after_batches;  // the client went away
    uint32_t rank = 0;
    // How many arrive before the first step, before the second, ...; what is left comes when the
    // others are done.
    std::vector<size_t> arrivals = {1, SIZE_MAX};
  };

  void Play(const Json& item) {
    const std::string id(*FindString(item, "id"));
    if (const Json* requests = Find(item, "requests")) {
      if (synced_) Compare(id, PlanConcurrent(*requests, id));
      return;
    }
    const Json& request = *Find(item, "request");
    const std::string path(
        FindString(request, "path")->substr(0, FindString(request, "path")->find('?')));
    const int64_t status = FindInt(*Find(item, "response"), "status").value_or(0);
    const Json* body_holder = Find(request, "body");
    const std::string body_text(
        body_holder != nullptr ? FindString(*body_holder, "text").value_or("") : "");
    const std::string answer(
        FindString(*Find(*Find(item, "response"), "body"), "text").value_or(""));
    if (path == "/reset_prefix_cache" || path == "/sleep" || path == "/pause") {
      if (answer.find("false") != std::string::npos || id.find("busy") != std::string::npos) {
        if (synced_) Lose(id, "an unrecorded request is running");
        return;
      }
      for (auto& core : cores_) EXPECT_TRUE(core->ResetPrefixCache(false));
      resync_ = !synced_;  // nothing of the past matters any more
      return;
    }
    static const std::set<std::string> generating = {
        "/v1/completions", "/v1/chat/completions",   "/v1/responses",
        "/v1/messages",    "/inference/v1/generate", "/v1/chat/completions/batch"};
    if (status != 200 || !generating.contains(path) || *FindString(request, "method") != "POST")
      return;
    auto body = codec::ParseJson(body_text);
    if (!body) return;
    const auto& events = Find(item, "events")->as_array();
    if (resync_ && !events.empty() && recording_.ranks == 1) {
      cursor_[0] = static_cast<size_t>(*FindInt(events[0], "seq"));
      synced_ = true;
      resync_ = false;
    }
    Plan plan = MakePlan(item, *body, path, answer);
    Compare(id, plan);
  }

  void Compare(const std::string& id, const Plan& plan) {
    std::vector<Batch> batches = Execute(plan);
    if (!synced_) {
      left_out.push_back(id);
      return;
    }
    const auto& recorded = recorded_[plan.rank];
    for (const Batch& batch : batches) {
      size_t& at = cursor_[plan.rank];
      if (at >= recorded.size() || recorded[at] != batch) {
        ADD_FAILURE() << recording_.folder << " " << id << ": batch " << at << " is '"
                      << ShapeOf(batch) << "', recorded '"
                      << (at < recorded.size() ? ShapeOf(recorded[at]) : "nothing") << "'";
        Lose(id, "differs");
        return;
      }
      if (recording_.format) {
        // One byte of array head and nine of time stamp before the events.
        const size_t index = static_cast<size_t>(&batch - batches.data());
        EXPECT_EQ(Hex(AsBytes(encoded_[index]).subspan(10)),
                  Hex(AsBytes(payloads_[plan.rank][at]).subspan(10)))
            << id;
      }
      ++at;
      ++matched;
    }
  }

  // Requests sent at once: they arrived in the order in which the last block of each was announced.
  Plan PlanConcurrent(const Json& requests, const std::string& id) {
    Plan plan;
    if (auto it = recording_.arrivals.find(id); it != recording_.arrivals.end())
      plan.arrivals = it->second;
    std::vector<std::pair<size_t, CoreRequest>> arrivals;
    for (const Json& request : requests.as_array()) {
      auto body = codec::ParseJson(*FindString(*Find(request, "body"), "text"));
      CoreRequest core;
      core.id = next_id_++;
      core.prompt = ReadTokens(*Find(*body, "prompt"));
      core.max_tokens = static_cast<uint32_t>(*FindInt(*body, "max_tokens"));
      core.scope = std::make_shared<CacheScope>();
      core.output = [out = Generated(core.prompt, core.max_tokens, *core.scope, 0)](
                        uint32_t index) { return out[index]; };
      const size_t end = core.prompt.size() / block_size_ * block_size_;
      const std::span<const kv::TokenId> last(core.prompt.data() + end - block_size_, block_size_);
      size_t position = 0;
      bool found = false;
      for (size_t at = cursor_[0]; at < recorded_[0].size() && !found; ++at) {
        for (const Event& event : recorded_[0][at]) {
          ++position;
          found = !std::ranges::search(event.tokens, last).empty();
          if (found) break;
        }
      }
      arrivals.emplace_back(position, std::move(core));
    }
    std::ranges::sort(arrivals, {}, [](const auto& arrival) {
      return std::pair(arrival.first, arrival.second.id);
    });
    for (auto& [position, core] : arrivals) {
      plan.requests.push_back(std::move(core));
    }
    return plan;
  }

  void Lose(const std::string& id, const char* why) {
    synced_ = false;
    left_out.push_back(id + " (" + why + ")");
  }

  Plan MakePlan(const Json& item, const Json& body, const std::string& path,
                const std::string& answer) {
    Plan plan;
    const Json& headers = *Find(*Find(item, "request"), "headers");
    plan.rank = PickRank(item, headers);
    auto scope = std::make_shared<CacheScope>();
    if (auto salt = FindString(body, "cache_salt")) scope->cache_salt = *salt;
    const std::string model(FindString(body, "model").value_or(""));
    if (model == "sql") {
      scope->lora_name = model, scope->lora_path = "/models/adapters/sql", scope->lora_id = 1;
    } else if (model.starts_with("chat-")) {
      scope->lora_name = model, scope->lora_path = "/models/adapters/chat", scope->lora_id = 8;
    }
    for (const Json& header : headers.as_array()) {
      if (header.as_array()[0].as_string() == "X-Session-ID")
        scope->session_id = header.as_array()[1].as_string();
    }
    std::vector<Tokens> prompts;
    if (const Json* ids = Find(item, "render_token_ids")) {
      for (const Json& prompt : ids->as_array()) prompts.push_back(ReadTokens(prompt));
    } else if (const Json* token_ids = Find(body, "token_ids")) {
      prompts.push_back(ReadTokens(*token_ids));
    } else if (path.ends_with("/batch")) {
      const size_t count = Find(body, "messages")->as_array().size();
      for (size_t i = 0; i < count; ++i) {
        prompts.push_back(
            Filler(static_cast<size_t>(*LastNumber(answer, "prompt_tokens")) / count));
      }
    } else {
      int64_t length = LastNumber(answer, "prompt_tokens").value_or(0);
      if (length == 0) {
        length = LastNumber(answer, "input_tokens").value_or(0) +
                 LastNumber(answer, "cache_creation_input_tokens").value_or(0) +
                 LastNumber(answer, "cache_read_input_tokens").value_or(0);
      }
      prompts.push_back(Reconstruct(static_cast<size_t>(length), plan.rank,
                                    !Find(item, "events")->as_array().empty()));
    }
    const auto n = static_cast<size_t>(FindInt(body, "n").value_or(1));
    int64_t completion = LastNumber(answer, "completion_tokens").value_or(0);
    if (completion == 0) completion = LastNumber(answer, "output_tokens").value_or(0);
    completion /= static_cast<int64_t>(n * prompts.size());
    if (Find(body, "stream") != nullptr || completion == 0) {
      if (auto v = FindInt(body, "max_tokens")) completion = *v;
      if (auto v = FindInt(body, "max_completion_tokens")) completion = *v;
      if (auto v = FindInt(body, "max_output_tokens")) completion = *v;
      if (const Json* sampling = Find(body, "sampling_params")) {
        if (auto v = FindInt(*sampling, "max_tokens")) completion = *v;
      }
    }
    if (const Json* aborted = Find(item, "aborted_by_client");
        aborted != nullptr && aborted->is_bool() && aborted->get_bool()) {
      plan.stop_after_batches = Find(item, "events")->as_array().size();
    }
    const Json* logprobs = Find(body, "logprobs");
    const bool prompt_logprobs =
        (Find(body, "prompt_logprobs") != nullptr && !Find(body, "prompt_logprobs")->is_null()) ||
        (codec::FindBool(body, "echo").value_or(false) && logprobs != nullptr &&
         !logprobs->is_null());
    const Json* xargs = Find(body, "vllm_xargs");
    for (const Tokens& prompt : prompts) {
      for (size_t i = 0; i < n; ++i) {
        CoreRequest request;
        request.id = next_id_++;
        request.prompt = prompt;
        request.max_tokens = static_cast<uint32_t>(completion);
        request.scope = scope;
        request.read_cache = !prompt_logprobs;
        request.report_reused =
            xargs != nullptr && FindString(*xargs, "kv_cache_report_mode") == "full";
        request.output = [out = Generated(prompt, request.max_tokens, *scope, plan.rank)](
                             uint32_t index) { return out[index]; };
        plan.requests.push_back(std::move(request));
      }
    }
    return plan;
  }

  std::vector<Batch> Execute(const Plan& plan) {
    EngineCore& core = *cores_[plan.rank];
    std::vector<Batch> batches;
    encoded_.clear();
    size_t added = 0, step = 0;
    auto add = [&](size_t count) {
      for (; count > 0 && added < plan.requests.size(); --count) core.Add(plan.requests[added++]);
    };
    add(plan.arrivals[0]);
    while (core.has_work()) {
      core.BeginStep();
      if (++step < plan.arrivals.size()) add(plan.arrivals[step]);
      StepResult result = core.FinishStep();
      if (!result.events.empty()) {
        Batch& batch = batches.emplace_back();
        for (const CacheEvent& event : result.events) batch.push_back(Convert(event));
        if (recording_.format) {
          const WireOptions wire{block_size_, DigestSize(recording_.algorithm), *recording_.format,
                                 recording_.raw ? EventHashWidth::k256 : EventHashWidth::k64};
          encoded_.push_back(EncodeEvents(result.events, plan.rank, WallTime(), wire));
        }
      }
      if (plan.stop_after_batches && batches.size() >= *plan.stop_after_batches &&
          !result.outputs.empty()) {
        for (const CoreRequest& request : plan.requests) core.Abort(request.id);
      }
      if (!core.has_work()) add(1);
    }
    return batches;
  }

  Event Convert(const CacheEvent& from) const {
    static constexpr const char* kKinds[] = {"BlockStored", "BlockRemoved", "AllBlocksCleared"};
    Event event;
    event.kind = kKinds[static_cast<size_t>(from.kind)];
    for (const BlockHash& hash : from.hashes) event.hashes.push_back(HashText(hash, recording_));
    if (from.parent) event.parent = HashText(*from.parent, recording_);
    event.tokens = from.tokens;
    return event;
  }

  // The tokens the engine generated after `prompt`, where later events show them; the others never
  // mattered.
  Tokens Generated(const Tokens& prompt, uint32_t count, const CacheScope& scope, uint32_t rank) {
    const auto hash = HashFunction(recording_);
    Tokens tokens = prompt;
    std::optional<BlockHash> parent;
    for (size_t at = 0; tokens.size() < prompt.size() + count; ++at) {
      const size_t begin = at * block_size_;
      if (begin + block_size_ > tokens.size()) {
        const std::string key = parent ? HashText(*parent, recording_) : "";
        const Tokens start(tokens.begin() + static_cast<ptrdiff_t>(begin), tokens.end());
        Tokens block = NextBlock(key, start, rank);
        if (block.empty()) break;
        tokens.resize(begin);
        tokens.insert(tokens.end(), block.begin(), block.end());
      }
      parent = hash(parent ? &*parent : nullptr, std::span(tokens).subspan(begin, block_size_),
                    scope, at);
    }
    Tokens out(tokens.begin() + static_cast<ptrdiff_t>(prompt.size()), tokens.end());
    while (out.size() < count) out.push_back(filler_++);
    return out;
  }

  // The next announced block after `parent` that starts with `start`.
  Tokens NextBlock(const std::string& parent, const Tokens& start, uint32_t rank) const {
    const auto& batches = recorded_[rank];
    for (size_t at = cursor_[rank]; at < batches.size(); ++at) {
      for (const Event& event : batches[at]) {
        std::string before = event.parent;
        for (size_t i = 0; i < event.hashes.size() && event.kind == "BlockStored"; ++i) {
          auto begin = event.tokens.begin() + static_cast<ptrdiff_t>(i * block_size_);
          if (before == parent && std::equal(start.begin(), start.end(), begin)) {
            return Tokens(begin, begin + block_size_);
          }
          before = event.hashes[i];
        }
      }
    }
    return {};
  }

  Tokens Filler(size_t count) {
    Tokens tokens;
    while (tokens.size() < count) tokens.push_back(filler_++);
    return tokens;
  }

  // The first `length` tokens of the chain that the next recorded batch goes on with.
  Tokens Reconstruct(size_t length, uint32_t rank, bool has_events) {
    Tokens tokens;
    if (has_events && cursor_[rank] < recorded_[rank].size()) {
      std::map<std::string, std::pair<std::string, Tokens>> known;
      for (const Batch& batch : recorded_[rank]) {
        for (const Event& event : batch) {
          std::string before = event.parent;
          for (size_t i = 0; i < event.hashes.size() && !event.tokens.empty(); ++i) {
            auto begin = event.tokens.begin() + static_cast<ptrdiff_t>(i * block_size_);
            known[event.hashes[i]] = {before, Tokens(begin, begin + block_size_)};
            before = event.hashes[i];
          }
        }
      }
      for (const Event& event : recorded_[rank][cursor_[rank]]) {
        if (event.kind != "BlockStored") continue;
        tokens = event.tokens;
        std::string last = event.hashes.back();
        for (std::string at = event.parent; !at.empty(); at = known[at].first) {
          tokens.insert(tokens.begin(), known[at].second.begin(), known[at].second.end());
        }
        while (tokens.size() < length) {
          const Tokens block = NextBlock(last, {}, rank);
          if (block.empty()) break;
          tokens.insert(tokens.end(), block.begin(), block.end());
          for (const auto& [hash, content] : known) {
            if (content.first == last && content.second == block) {
              last = hash;
              break;
            }
          }
        }
        break;
      }
    }
    if (tokens.size() > length) tokens.resize(length);
    Tokens rest = Filler(length - tokens.size());
    tokens.insert(tokens.end(), rest.begin(), rest.end());
    return tokens;
  }

  uint32_t PickRank(const Json& item, const Json& headers) {
    if (recording_.ranks == 1) return 0;
    for (const Json& header : headers.as_array()) {
      if (header.as_array()[0].as_string() == "X-data-parallel-rank") {
        return static_cast<uint32_t>(header.as_array()[1].as_string()[0] - '0');
      }
    }
    const auto& events = Find(item, "events")->as_array();
    if (!events.empty()) {
      const auto rank = static_cast<uint32_t>(*FindInt(events[0], "source"));
      next_rank_ = (rank + 1) % recording_.ranks;
      return rank;
    }
    return std::exchange(next_rank_, (next_rank_ + 1) % recording_.ranks);
  }

  Recording recording_;
  std::vector<Json> cases_;
  uint32_t block_size_ = 16;
  std::vector<std::vector<Batch>> recorded_;  // per rank
  std::vector<std::vector<std::string>> payloads_;
  std::vector<std::string> encoded_;  // of the request just played
  std::vector<size_t> cursor_;
  std::vector<std::unique_ptr<EngineCore>> cores_;
  bool synced_ = true;
  bool resync_ = false;  // goes on at the first batch of the next case
  uint64_t next_id_ = 1;
  uint32_t next_rank_ = 0;
  kv::TokenId filler_ = 2'000'000;  // beyond every vocabulary
};

struct Expected {
  size_t matched = 0;
  std::vector<std::string> left_out;
};

void PlayRecording(const Recording& recording, const Expected& expected) {
  Player player(recording);
  player.PlayAll();
  std::printf("%s: %zu of %zu batches equal\n", recording.folder.c_str(), player.matched,
              player.total());
  EXPECT_EQ(player.matched, expected.matched);
  EXPECT_EQ(player.left_out, expected.left_out);
}

// The request that runs while the cache is reset was not recorded; from the next reset on all is
// equal again.
const std::vector<std::string> kBusyReset = {"m-reset-busy (an unrecorded request is running)",
                                             "m-c-reset-after-3"};

TEST(Recordings, BlockSize16) {
  PlayRecording({.folder = "vllm-0.32.0/bs16", .blocks = 256, .arrivals = {{"m-dup-pair", {2}}}},
                {310, kBusyReset});
}

TEST(Recordings, BlockSize64WithPickledHashes) {
  PlayRecording({.folder = "vllm-0.32.0/bs64",
                 .blocks = 64,
                 .algorithm = kv::HashAlgo::kSha256,
                 .arrivals = {{"m-dup-pair", {1}}, {"m-dup-eight", {1, 6}}}},
                {154, kBusyReset});
}

TEST(Recordings, WideHashesAndTheDefaultSeed) {
  PlayRecording({.folder = "vllm-0.32.0/bs32raw",
                 .blocks = 100,
                 .algorithm = kv::HashAlgo::kSha256,
                 .seed = std::string(kv::kDefaultHashSeed),
                 .raw = true},
                {27, {}});
}

TEST(Recordings, XxhashCbor) {
  PlayRecording(
      {.folder = "vllm-0.32.0/xxh", .blocks = 100, .algorithm = kv::HashAlgo::kXxhashCbor},
      {27, {}});
}

TEST(Recordings, DataParallelRanks) {
  PlayRecording({.folder = "vllm-0.32.0/dp2", .blocks = 200, .ranks = 2}, {27, {}});
}

TEST(Recordings, Release23) {
  PlayRecording({.folder = "vllm-0.23.0/bs32",
                 .blocks = 100,
                 .tagged = false,
                 .reuse_empty_first = false,
                 .format = kv::EventFormat::kArray},
                {27, {}});
}

TEST(Recordings, Release14) {
  PlayRecording({.folder = "vllm-0.14.1/bs32",
                 .blocks = 100,
                 .tagged = false,
                 .reuse_empty_first = false,
                 .format = std::nullopt},
                {27, {}});
}

}  // namespace
}  // namespace warmpath::sim
