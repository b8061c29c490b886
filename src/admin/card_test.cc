#include "admin/card.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace warmpath::admin {
namespace {

fleet::Endpoint HealthyEndpoint() {
  fleet::Endpoint endpoint;
  endpoint.id = 1;
  endpoint.spec =
      fleet::ParseEndpoints({"http://h:8000,name=a,dp=2,label.role=decode"}, false)->front();
  endpoint.health = fleet::Health::kHealthy;
  endpoint.models = {{"base", "base", ""}, {"sql", "/adapters/sql", "base"}};
  endpoint.engine_version = "0.14.1";
  endpoint.load.block_size = 16;
  endpoint.load.kv_blocks = 400;
  return endpoint;
}

events::PublisherStatus LiveRank(uint16_t rank) {
  events::PublisherStatus status;
  status.endpoint = 1;
  status.rank = rank;
  status.connected = true;
  status.received = 10;
  status.last_seq = 9 + rank;
  status.block_size = 32;
  status.format = "array";
  status.last_message_age = std::chrono::seconds(1 + rank);
  return status;
}

std::vector<std::string> NoteCodes(const codec::JsonObject& card) {
  std::vector<std::string> codes;
  for (const codec::Json& note : card.at("notes").as_array()) {
    codes.emplace_back(*codec::FindString(note, "code"));
  }
  return codes;
}

TEST(MakeCard, ShowsTheStateOfTheTokenizer) {
  const fleet::Endpoint endpoint = HealthyEndpoint();
  CardFacts facts{endpoint, {LiveRank(0)}, 0, {}, {}, "", TimePoint{}};
  EXPECT_FALSE(MakeCard(facts).contains("tokenizer"));
  facts.tokenizer = TokenizerInfo{"failed", "org/model", "", "", "gated: set HF_TOKEN"};
  EXPECT_EQ(codec::DumpJson(MakeCard(facts).at("tokenizer")),
            R"({"state":"failed","name":"org/model","source":null,"directory":null,)"
            R"("reason":"gated: set HF_TOKEN"})");
}

TEST(MakeCard, SaysEverythingKnownOfAnEngine) {
  const fleet::Endpoint endpoint = HealthyEndpoint();
  CardFacts facts{endpoint, {LiveRank(0), LiveRank(1)}, 123, {}, {}, "", TimePoint{}};
  facts.predictions.requests = 4;
  facts.predictions.exact = 3;
  const codec::Json card = *codec::ParseJson(codec::DumpJson(MakeCard(facts)));
  EXPECT_EQ(codec::FindString(card, "name"), "a");
  EXPECT_EQ(codec::FindString(card, "url"), "http://h:8000");
  EXPECT_EQ(codec::FindString(card, "state"), "healthy");
  EXPECT_EQ(codec::FindInt(card, "blocks"), 123);
  EXPECT_EQ(codec::FindInt(card, "capacity_blocks"), 400);
  EXPECT_EQ(codec::FindInt(card, "block_size"), 32) << "learned from events, not as scraped";
  const codec::Json& events = *codec::Find(card, "events");
  EXPECT_EQ(codec::FindBool(events, "connected"), true);
  EXPECT_EQ(codec::FindInt(events, "received"), 20);
  EXPECT_EQ(codec::FindInt(events, "last_seq"), 10);
  EXPECT_EQ(codec::FindInt(events, "gaps"), 0);
  EXPECT_EQ(codec::FindInt(events, "errors"), 0);
  EXPECT_EQ(codec::FindInt(events, "last_message_age_ms"), 1000);
  EXPECT_EQ(codec::Find(events, "ranks")->as_array().size(), 2u);
  EXPECT_EQ(codec::DumpJson(*codec::Find(card, "formats")), R"(["array"])");
  EXPECT_EQ(codec::DumpJson(*codec::Find(card, "labels")), R"({"role":"decode"})");
  EXPECT_EQ(codec::FindInt(*codec::Find(card, "prediction"), "exact"), 3);
  EXPECT_TRUE(codec::Find(*codec::Find(card, "load"), "age_ms")->is_null()) << "never scraped";
  EXPECT_TRUE(NoteCodes(card.as_object()).empty());
}

TEST(MakeCard, NamesWhatMakesPredictionsWorse) {
  fleet::Endpoint endpoint = HealthyEndpoint();
  endpoint.load.prefix_caching = false;
  CardFacts facts{endpoint, {LiveRank(0), LiveRank(1)}, 0,          {},
                  {},       "tokenizer not found",      TimePoint{}};
  facts.publishers[0].hybrid = true;
  facts.publishers[1].silent = true;
  facts.predictions.parity_checked = 2;
  facts.predictions.parity_equal = 1;
  const codec::JsonObject card = MakeCard(facts);
  EXPECT_EQ(NoteCodes(card), (std::vector<std::string>{"hybrid", "silent", "prefix-caching",
                                                       "tokens", "token-parity"}));
  const std::string text = codec::DumpJson(card);
  EXPECT_NE(text.find("hybrid: over-predicts"), std::string::npos);
  EXPECT_NE(text.find("--kv-events-config"), std::string::npos);
}

TEST(MakeCard, NamesAWrongNumberOfRanks) {
  fleet::Endpoint endpoint = HealthyEndpoint();
  endpoint.load.ranks = endpoint.spec.data_parallel;
  CardFacts facts{endpoint, {LiveRank(0), LiveRank(1)}, 0, {}, {}, "", TimePoint{}};
  EXPECT_TRUE(NoteCodes(MakeCard(facts)).empty());
  endpoint.load.ranks = 4;
  EXPECT_EQ(NoteCodes(MakeCard(facts)), std::vector<std::string>{"data-parallel"});
  EXPECT_NE(codec::DumpJson(MakeCard(facts)).find("set dp=4"), std::string::npos);
}

TEST(MakeCard, TellsUnconnectedFromUnexpectedEvents) {
  const fleet::Endpoint endpoint = HealthyEndpoint();
  CardFacts facts{endpoint, {LiveRank(0), LiveRank(1)}, 0, {}, {}, "", TimePoint{}};
  facts.publishers[1].connected = false;
  EXPECT_EQ(NoteCodes(MakeCard(facts)), std::vector<std::string>{"events"});
  facts.publishers.clear();
  const codec::JsonObject card = MakeCard(facts);
  EXPECT_EQ(NoteCodes(card), std::vector<std::string>{"no-events"});
  EXPECT_EQ(codec::FindInt(card.at("events"), "last_seq"), -1);
  EXPECT_EQ(codec::FindBool(card.at("events"), "connected"), false);
}

routing::DecisionRecord RecordOf(uint64_t warm_a, uint64_t warm_b) {
  routing::DecisionRecord record;
  record.prompt_tokens = 200;
  record.chosen = "a";
  for (const auto& [name, warm] : {std::pair<std::string, uint64_t>{"a", warm_a}, {"b", warm_b}}) {
    routing::EndpointVerdict verdict;
    verdict.name = name;
    verdict.cached_tokens = verdict.expected_cached_tokens = warm;
    record.endpoints.push_back(verdict);
  }
  return record;
}

TEST(WhyChosen, SaysItInOneSentence) {
  EXPECT_EQ(WhyChosen(RecordOf(160, 0)), "warmest: 160 of 200 tokens");
  EXPECT_EQ(WhyChosen(RecordOf(0, 0)), "nothing warm anywhere: least load");
  EXPECT_EQ(WhyChosen(RecordOf(16, 160)), "16 of 200 tokens warm; b has 160 but scores lower");
  routing::DecisionRecord record = RecordOf(160, 0);
  record.endpoints[0].cached_tokens = 16;
  EXPECT_EQ(WhyChosen(record), "warmest: 160 of 200 tokens, 144 of them by a request under way");
  record.endpoints[1].filtered_by = "some-filter";
  EXPECT_EQ(WhyChosen(record), "only endpoint left: 160 of 200 tokens warm");
  record.tokens_note = "no tokenizer";
  EXPECT_EQ(WhyChosen(record), "by load: no tokenizer");
  record.chosen = "";
  EXPECT_EQ(WhyChosen(record), "no endpoint could take it");
}

}  // namespace
}  // namespace warmpath::admin
