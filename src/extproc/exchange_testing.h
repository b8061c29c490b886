// The fixture of the tests of exchanges: a real Director with endpoints that are only names, and
// one stream in memory.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "extproc/exchange.h"
#include "extproc/testing.h"

namespace warmpath::extproc::testing {

using net::GrpcStatus;

class FakeEvents final : public events::EventsManager {
 public:
  void SetEndpoints(const fleet::Snapshot&) override {}
  void NoteTraffic(fleet::EndpointId, uint64_t) override {}
  std::vector<events::PublisherStatus> status() const override { return {}; }
  std::vector<fleet::EndpointId> flowing() const override { return {}; }
  uint32_t block_size(fleet::EndpointId) const override { return 16; }
  uint16_t bound_port() const override { return 0; }
  void Start() override {}
  void Unbind() override {}
  void Stop() override {}
};

inline const std::string kBody = R"({"model":"m","prompt":[1,2,3]})";
inline const HeaderList kPost = {{":method", "POST"},
                                 {":path", "/v1/completions"},
                                 {":authority", "gateway"},
                                 {"content-type", "application/json"},
                                 {"traceparent", "00-11-22-01"},
                                 {"x-request-id", "R1"}};
inline const HeaderList kGet = {
    {":method", "GET"}, {":path", "/v1/models"}, {"x-request-id", "R1"}};
inline const HeaderList kJsonAnswer = {{":status", "200"}, {"content-type", "application/json"}};
inline const HeaderList kEventsAnswer = {{":status", "200"}, {"content-type", "text/event-stream"}};

inline std::string HeaderOf(const pb::HeaderMutation& mutation, std::string_view name) {
  for (const auto& option : mutation.set_headers()) {
    if (option.header().key() != name) continue;
    EXPECT_EQ(option.append_action(), pb::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
    EXPECT_TRUE(option.header().value().empty());
    return option.header().raw_value();
  }
  return "";
}
inline bool Removes(const pb::HeaderMutation& mutation, std::string_view name) {
  const auto& names = mutation.remove_headers();
  return std::find(names.begin(), names.end(), name) != names.end();
}
inline const pb::StreamedBodyResponse& Streamed(const pb::BodyResponse& body) {
  return body.response().body_mutation().streamed_response();
}

// Endpoints a to c at 127.0.0.1:8001 to 8003, d at 10.0.0.9:8001.
class ExchangeTest : public ::testing::Test {
 protected:
  ExchangeTest() {
    fleet_.SetEndpoints(*fleet::ParseEndpoints(
        {"http://127.0.0.1:8001,name=a,events=none", "http://127.0.0.1:8002,name=b,events=none",
         "http://127.0.0.1:8003,name=c,events=none", "http://10.0.0.9:8001,name=d,events=none"},
        false));
    SetHealth(fleet::Health::kHealthy);
    options_.conformance_headers = false;
  }
  void SetHealth(fleet::Health health) {
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints) {
      fleet_.UpdateForTest(endpoint->id, [health](fleet::Endpoint& e) {
        e.health = health;
        e.models = {{"m", "m", ""}};
      });
    }
  }
  int64_t InFlight() {
    int64_t sum = 0;
    const auto snapshot = fleet_.snapshot();
    for (const auto& endpoint : snapshot->endpoints)
      sum += fleet_.inflight().Load(endpoint->id).requests;
    return sum;
  }
  ExchangeShared& shared() {
    if (!shared_) {
      shared_ = std::make_unique<ExchangeShared>(
          options_,
          ExtProcDeps{director_, fleet_, pool_, metrics_, clock_, [] { return HealthInputs{}; }});
    }
    return *shared_;
  }
  // A stream begins.
  void Open() {
    exchange_.reset();
    sink_ = std::make_unique<MemorySink>();
    exchange_ = std::make_unique<Exchange>(shared(), *sink_);
  }
  void Say(const pb::ProcessingRequest& message) {
    if (!exchange_) Open();
    exchange_->OnMessage(message.SerializeAsString());
    EXPECT_TRUE(sink_->parsed);
  }
  pb::ProcessingResponse Hear() {
    EXPECT_FALSE(sink_->sent.empty()) << "no answer";
    return sink_->Take();
  }
  bool Silent() const { return sink_->sent.empty(); }

  // The request's echo that is waiting: its bytes; checks the form.
  std::string HearEcho(bool end_of_stream = true) {
    std::string body;
    while (!sink_->sent.empty() && sink_->sent.front().has_request_body()) {
      const auto part = Hear();
      const auto& streamed = Streamed(part.request_body());
      EXPECT_LE(streamed.body().size(), kMaxChunk);
      body += streamed.body();
      const bool last = sink_->sent.empty() || !sink_->sent.front().has_request_body();
      EXPECT_EQ(streamed.end_of_stream(), last && end_of_stream);
    }
    return body;
  }
  pb::HeaderMutation HearDecision() {
    const auto reply = Hear();
    EXPECT_TRUE(reply.has_request_headers());
    const auto& common = reply.request_headers().response();
    EXPECT_TRUE(common.clear_route_cache());
    const auto* value = [&]() -> const pb::Value* {
      for (const auto& space : reply.dynamic_metadata().fields()) {
        if (space.key() != "envoy.lb") continue;
        for (const auto& field : space.value().struct_value().fields()) {
          if (field.key() == kDestinationHeader) return &field.value();
        }
      }
      return nullptr;
    }();
    EXPECT_TRUE(value != nullptr &&
                value->string_value() == HeaderOf(common.header_mutation(), kDestinationHeader));
    return common.header_mutation();
  }
  void HearRefusal(int status, const std::string& details, const std::string& reason = "") {
    const auto reply = Hear();
    ASSERT_TRUE(reply.has_immediate_response());
    const auto& answer = reply.immediate_response();
    EXPECT_EQ(answer.status().code(), status) << answer.body();
    EXPECT_EQ(answer.details(), details);
    EXPECT_EQ(HeaderOf(answer.headers(), "content-type"), "application/json");
    EXPECT_EQ(HeaderOf(answer.headers(), "x-request-id"), "R1");
    EXPECT_EQ(HeaderOf(answer.headers(), "x-llm-d-request-dropped-reason"), reason);
    EXPECT_EQ(HeaderOf(answer.headers(), "retry-after"), status == 503 || status == 429 ? "1" : "");
    EXPECT_NE(answer.body().find(R"({"error":{"message":)"), std::string::npos);
    EXPECT_TRUE(Silent());
    EXPECT_TRUE(sink_->complete);
    EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
    EXPECT_EQ(InFlight(), 0);
    EXPECT_EQ(shared().buffered.used(), 0u);
  }
  // A whole request in duplex mode, up to the echo. Its destination.
  std::string Route(const std::string& body = kBody, const HeaderList& headers = kPost) {
    Say(RequestHeaders(headers));
    Say(RequestBody(body, true));
    const std::string destination = HeaderOf(HearDecision(), kDestinationHeader);
    EXPECT_EQ(HearEcho(), body);
    return destination;
  }
  double Value(const std::string& series) {
    const std::string text = metrics_.Render();
    const size_t at = text.find("\n" + series + " ");
    return at == std::string::npos ? -1 : std::stod(text.substr(at + series.size() + 2));
  }

  ManualClock clock_;
  Registry metrics_;
  net::Loop loop_{"fleet"};
  CpuPool pool_{"pool", 1, 4};
  index::KvIndex index_{64 << 20};
  FakeEvents events_;
  std::unique_ptr<scheduling::Scheduler> scheduler_ =
      *scheduling::Scheduler::Create(scheduling::DefaultSchedulerSpec());
  fleet::Fleet fleet_{loop_, {}, metrics_, clock_};
  routing::Director director_{{fleet_, index_, &events_, *scheduler_, metrics_, clock_}, {}};
  ExtProcOptions options_;
  std::unique_ptr<ExchangeShared> shared_;
  std::unique_ptr<MemorySink> sink_;
  std::unique_ptr<Exchange> exchange_;
};

}  // namespace warmpath::extproc::testing
