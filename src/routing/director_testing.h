// A Director in front of two engines "a" and "b", for tests.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kv/keys.h"
#include "routing/director.h"

namespace warmpath::routing {

inline constexpr uint32_t kBlock = 16;

class FakeEvents final : public events::EventsManager {
 public:
  void SetEndpoints(const fleet::Snapshot&) override {}
  void NoteTraffic(fleet::EndpointId, uint64_t) override {}
  std::vector<events::PublisherStatus> status() const override { return publishers; }
  std::vector<fleet::EndpointId> flowing() const override {
    std::vector<fleet::EndpointId> flowing;
    for (const events::PublisherStatus& publisher : publishers) {
      if (publisher.connected && !publisher.silent) flowing.push_back(publisher.endpoint);
    }
    std::sort(flowing.begin(), flowing.end());
    return flowing;
  }
  uint32_t block_size(fleet::EndpointId) const override { return kBlock; }
  uint16_t bound_port() const override { return 0; }
  void Start() override {}
  void Unbind() override {}
  void Stop() override {}

  std::vector<events::PublisherStatus> publishers;
};

inline std::shared_ptr<const prompt::Encoder> QwenEncoder() {
  static const auto encoder = [] {
    auto tokenizer = prompt::Tokenizer::Load(WARMPATH_TOKENIZERS "/qwen3");
    EXPECT_TRUE(tokenizer) << tokenizer.error().message;
    return std::make_shared<const prompt::Encoder>(*tokenizer, prompt::EncoderOptions{});
  }();
  return encoder;
}

// Two engines "a" and "b" on one host; prompts are token ids, so that tests count blocks.
class DirectorTest : public ::testing::Test {
 protected:
  explicit DirectorTest(const std::string& b_options = "", const DirectorOptions& options = {},
                        const scheduling::SchedulerSpec& spec = scheduling::DefaultSchedulerSpec())
      : scheduler_(*scheduling::Scheduler::Create(spec)),
        fleet_(loop_, {}, metrics_, clock_),
        director_({fleet_, index_, &events_, *scheduler_, metrics_, clock_}, options) {
    fleet_.SetEndpoints(*fleet::ParseEndpoints(
        {"http://127.0.0.1:8001,name=a,events=tcp://127.0.0.1:5001",
         "http://127.0.0.1:8002,name=b,events=tcp://127.0.0.1:5002" + b_options},
        false));
    director_.SetEncoder("", QwenEncoder());
  }

  fleet::EndpointId IdOf(const std::string& name) {
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      if (endpoint->name() == name) return endpoint->id;
    }
    ADD_FAILURE() << name;
    return 0;
  }

  static std::vector<kv::TokenId> Tokens(size_t count, kv::TokenId first = 100) {
    std::vector<kv::TokenId> ids(count);
    for (size_t i = 0; i < count; ++i) ids[i] = first + static_cast<kv::TokenId>(i % 1000);
    return ids;
  }
  static std::string Body(const std::vector<kv::TokenId>& ids, const std::string& more = "") {
    return fmt::format(R"({{"model":"m","prompt":[{}],"stream":true{}}})", fmt::join(ids, ","),
                       more);
  }
  void StoreAt(const std::string& name, const std::vector<kv::TokenId>& ids, uint16_t rank = 0,
               const std::string& adapter = "", const std::string& salt = "") {
    const kv::BlockKey root = kv::RootKey(kBlock, adapter, salt);
    std::vector<index::BlockAlias> blocks;
    for (const kv::BlockKey key : kv::PrefixKeys(root, ids, kBlock)) blocks.push_back({key, key});
    index_.Store({IdOf(name), rank}, index::Tier::kGpu, 0, root, blocks);
  }
  Result<Prepared> Prepare(net::Headers headers, const std::string& more = "") {
    return director_.Prepare("r", prompt::Api::kCompletions, Body(Tokens(40), more),
                             {std::move(headers), std::nullopt});
  }
  bool Rendered(const std::string& line) const {
    return ("\n" + metrics_.Render()).find("\n" + line + "\n") != std::string::npos;
  }
  Outcome Route(const std::string& body, const std::string& id = "r") {
    auto prepared = director_.Prepare(id, prompt::Api::kCompletions, body);
    EXPECT_TRUE(prepared) << prepared.error().message;
    auto outcome = director_.Decide(*prepared);
    EXPECT_TRUE(outcome) << outcome.error().message;
    return std::move(*outcome);
  }

  ManualClock clock_;
  Registry metrics_;
  net::Loop loop_{"test"};
  index::KvIndex index_{64 << 20};
  FakeEvents events_;
  std::unique_ptr<scheduling::Scheduler> scheduler_;
  fleet::Fleet fleet_;
  Director director_;
};

}  // namespace warmpath::routing
