// Scripted exchanges against a real Director: what Envoy sends goes in, what it would get comes
// out.
#include "extproc/exchange.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "extproc/testing.h"
#include "kv/keys.h"

namespace warmpath::extproc {
namespace {

using namespace std::chrono_literals;
using namespace testing;  // NOLINT: of this module
using net::GrpcStatus;

class FakeEvents final : public events::EventsManager {
 public:
  void SetEndpoints(const fleet::Snapshot&) override {}
  void NoteTraffic(fleet::EndpointId, uint64_t) override {}
  std::vector<events::PublisherStatus> status() const override { return {}; }
  uint32_t block_size(fleet::EndpointId) const override { return 16; }
  uint16_t bound_port() const override { return 0; }
  void Start() override {}
  void Stop() override {}
};

const std::string kBody = R"({"model":"m","prompt":[1,2,3]})";
const HeaderList kPost = {{":method", "POST"},
                          {":path", "/v1/completions"},
                          {":authority", "gateway"},
                          {"content-type", "application/json"},
                          {"traceparent", "00-11-22-01"},
                          {"x-request-id", "R1"}};
const HeaderList kGet = {{":method", "GET"}, {":path", "/v1/models"}, {"x-request-id", "R1"}};
const HeaderList kJsonAnswer = {{":status", "200"}, {"content-type", "application/json"}};
const HeaderList kEventsAnswer = {{":status", "200"}, {"content-type", "text/event-stream"}};

std::string HeaderOf(const pb::HeaderMutation& mutation, std::string_view name) {
  for (const auto& option : mutation.set_headers()) {
    if (option.header().key() != name) continue;
    EXPECT_EQ(option.append_action(), pb::HeaderValueOption::OVERWRITE_IF_EXISTS_OR_ADD);
    EXPECT_TRUE(option.header().value().empty());
    return option.header().raw_value();
  }
  return "";
}
bool Removes(const pb::HeaderMutation& mutation, std::string_view name) {
  const auto& names = mutation.remove_headers();
  return std::find(names.begin(), names.end(), name) != names.end();
}
const pb::StreamedBodyResponse& Streamed(const pb::BodyResponse& body) {
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

// ---- transcripts

TEST_F(ExchangeTest, A1APostIsDecidedWhenItsBodyIsWholeAndItsAnswerPassesThrough) {
  Say(WithModes(RequestHeaders(kPost), pb::FULL_DUPLEX_STREAMED, pb::FULL_DUPLEX_STREAMED));
  Say(RequestBody(kBody.substr(0, 9), false));
  EXPECT_TRUE(Silent());
  EXPECT_EQ(InFlight(), 0);
  Say(RequestBody(kBody.substr(9), true));
  const auto mutation = HearDecision();
  EXPECT_TRUE(HeaderOf(mutation, kDestinationHeader).starts_with("127.0.0.1:800") ||
              HeaderOf(mutation, kDestinationHeader) == "10.0.0.9:8001");
  EXPECT_EQ(HearEcho(), kBody);
  EXPECT_EQ(InFlight(), 1);
  EXPECT_EQ(shared().buffered.used(), 0u);

  Say(ResponseHeaders(kJsonAnswer));
  const auto head = Hear();
  ASSERT_TRUE(head.has_response_headers());
  EXPECT_EQ(head.response_headers().response().header_mutation().set_headers_size(), 0);
  const std::string answer =
      R"({"id":"x","model":"m","usage":{"prompt_tokens":3,"completion_tokens":1,)"
      R"("prompt_tokens_details":{"cached_tokens":0}}})";
  Say(ResponseBody(answer, true));
  const auto body = Hear();
  EXPECT_EQ(Streamed(body.response_body()).body(), answer);
  EXPECT_TRUE(Streamed(body.response_body()).end_of_stream());
  EXPECT_TRUE(sink_->complete);
  EXPECT_EQ(InFlight(), 0);
  const auto record = director_.FindRecord("R1");
  ASSERT_TRUE(record);
  EXPECT_EQ(record->status, 200);
  EXPECT_FALSE(record->aborted);
  EXPECT_EQ(record->delivered_prompt_tokens, 3u);
  // How Envoy ends a successful exchange.
  exchange_->OnGone();
  EXPECT_EQ(Value("warmpath_extproc_aborts_total"), 0);
}

TEST_F(ExchangeTest, A2EveryEventIsEchoedAtOnceAndTheLastMessageMayBeEmpty) {
  Route();
  Say(ResponseHeaders(kEventsAnswer));
  Hear();
  for (const std::string event :
       {"data: {\"a\":1}\n\n", "data: {\"usage\":{\"prompt_tok", "ens\":3}}\n\ndata: [DONE]\n\n"}) {
    Say(ResponseBody(event, false));
    const auto echo = Hear();
    EXPECT_EQ(Streamed(echo.response_body()).body(), event);
    EXPECT_FALSE(Streamed(echo.response_body()).end_of_stream());
    EXPECT_TRUE(Silent());
  }
  EXPECT_FALSE(sink_->complete);
  EXPECT_EQ(InFlight(), 1);
  Say(ResponseBody("", true));
  const auto last = Hear();
  EXPECT_EQ(Streamed(last.response_body()).body(), "");
  EXPECT_TRUE(Streamed(last.response_body()).end_of_stream());
  EXPECT_EQ(InFlight(), 0);
  EXPECT_EQ(director_.FindRecord("R1")->delivered_prompt_tokens, 3u);
  Say(ResponseBody("", true));
  EXPECT_TRUE(Silent()) << "a second end_of_stream is ignored";
}

TEST_F(ExchangeTest, A3ARequestWithoutBodyIsAnsweredAtOnce) {
  Say(WithSubset(RequestHeaders(kGet, true), List({"127.0.0.1:8002"})));
  EXPECT_EQ(HeaderOf(HearDecision(), kDestinationHeader), "127.0.0.1:8002");
  EXPECT_TRUE(Silent());
  EXPECT_EQ(InFlight(), 1);
  Say(ResponseHeaders({{":status", "304"}}, true));
  EXPECT_TRUE(Hear().has_response_headers());
  EXPECT_TRUE(sink_->complete);
  EXPECT_EQ(InFlight(), 0);
}

TEST_F(ExchangeTest, BodilessRequestsGoWhereLoadIsLeast) {
  std::map<std::string, int> hits;
  std::vector<std::unique_ptr<MemorySink>> sinks;
  std::vector<std::unique_ptr<Exchange>> open;
  for (int i = 0; i < 8; ++i) {
    sinks.push_back(std::make_unique<MemorySink>());
    open.push_back(std::make_unique<Exchange>(shared(), *sinks.back()));
    open.back()->OnMessage(RequestHeaders(kGet, true).SerializeAsString());
    const auto reply = sinks.back()->Take();
    ++hits[HeaderOf(reply.request_headers().response().header_mutation(), kDestinationHeader)];
  }
  EXPECT_EQ(hits.size(), 4u);
  for (const auto& [where, count] : hits) EXPECT_EQ(count, 2) << where;
}

TEST_F(ExchangeTest, A4WithoutAnEndpointTheAnswerIs503) {
  SetHealth(fleet::Health::kUnhealthy);
  Say(RequestHeaders(kPost));
  Say(RequestBody(kBody, true));
  HearRefusal(503, "no_endpoint_available", "rejected-no-endpoints");
  Open();
  Say(RequestHeaders(kGet, true));
  HearRefusal(503, "no_endpoint_available", "rejected-no-endpoints");
  EXPECT_EQ(Value("warmpath_extproc_refused_total{reason=\"no_endpoints\"}"), 2);
}

TEST_F(ExchangeTest, A5AResetBeforeTheEndIsAnAbort) {
  Route();
  EXPECT_EQ(InFlight(), 1);
  exchange_->OnGone();
  EXPECT_EQ(InFlight(), 0);
  EXPECT_TRUE(director_.FindRecord("R1")->aborted);
  Open();
  Route();
  Say(ResponseHeaders(kEventsAnswer));
  Say(ResponseBody("data: 1\n\n", false));
  exchange_->OnGone();
  EXPECT_EQ(InFlight(), 0);
  EXPECT_EQ(Value("warmpath_extproc_aborts_total"), 2);
  Open();
  Say(RequestHeaders(kPost));
  Say(RequestBody("{", false));
  exchange_->OnGone();
  EXPECT_EQ(shared().buffered.used(), 0u);
  EXPECT_EQ(Value("warmpath_extproc_aborts_total"), 2) << "nothing had been routed";
}

TEST_F(ExchangeTest, A6TrailersFollowABodyThatDoesNotEndItself) {
  Say(RequestHeaders(kPost));
  Say(RequestBody(kBody, false));
  EXPECT_TRUE(Silent());
  Say(RequestTrailers());
  HearDecision();
  EXPECT_EQ(HearEcho(/*end_of_stream=*/false), kBody);
  EXPECT_TRUE(Hear().has_request_trailers());
  Say(ResponseHeaders(kJsonAnswer));
  Hear();
  Say(ResponseBody("{}", false));
  EXPECT_FALSE(Streamed(Hear().response_body()).end_of_stream());
  EXPECT_FALSE(sink_->complete);
  Say(ResponseTrailers());
  EXPECT_TRUE(Hear().has_response_trailers());
  EXPECT_TRUE(sink_->complete);
  EXPECT_EQ(director_.FindRecord("R1")->status, 200);
}

TEST_F(ExchangeTest, A7AnAnswerMayOvertakeTheEchoOfItsRequest) {
  const std::string body = R"({"model":"m","prompt":")" + std::string(2'000'000, 'x') + "\"}";
  Say(RequestHeaders(kPost));
  sink_->hold = true;
  Say(RequestBody(body, true));
  sink_->RunOffloaded();
  HearDecision();
  const std::string first = HearEcho(false);
  EXPECT_LT(first.size(), body.size());
  Say(ResponseHeaders({{":status", "413"}}));
  EXPECT_TRUE(Hear().has_response_headers());
  Say(ResponseBody("no", true));
  EXPECT_TRUE(Streamed(Hear().response_body()).end_of_stream());
  EXPECT_EQ(director_.FindRecord("R1")->status, 413);
  EXPECT_EQ(InFlight(), 0);
  sink_->hold = false;
  sink_->queued = 0;
  exchange_->OnDrain();
  EXPECT_EQ(first + HearEcho(), body);
}

// ---- the body

TEST_F(ExchangeTest, ALargeBodyIsGivenBackAsThePeerTakesItAndThenFreed) {
  const std::string body = R"({"model":"m","prompt":")" + std::string(8'000'000, 'x') + "\"}";
  HeaderList headers = kPost;
  headers.emplace_back("content-length", std::to_string(body.size()));
  Say(RequestHeaders(headers));
  for (size_t at = 0; at < body.size(); at += 100'000) {
    Say(RequestBody(body.substr(at, 100'000), false));
  }
  Say(RequestBody("", true));
  EXPECT_EQ(shared().buffered.used(), body.size());
  EXPECT_TRUE(Silent());
  sink_->hold = true;
  sink_->RunOffloaded();
  EXPECT_EQ(HeaderOf(HearDecision(), "content-length"), std::to_string(body.size()));
  std::string echo;
  while (shared().buffered.used() > 0) {
    while (!Silent()) {
      const auto part = Hear();
      echo += Streamed(part.request_body()).body();
      ASSERT_EQ(Streamed(part.request_body()).end_of_stream(), echo.size() == body.size());
    }
    sink_->queued = 0;
    exchange_->OnDrain();
  }
  while (!Silent()) echo += Streamed(Hear().request_body()).body();
  EXPECT_EQ(echo, body);
  EXPECT_LT(sink_->peak, kSendAhead + 2 * kMaxChunk);
}

TEST_F(ExchangeTest, NothingAfterTheFirstEndOfStreamCounts) {
  Say(RequestHeaders(kPost));
  Say(RequestBody(kBody, true));
  HearDecision();
  EXPECT_EQ(HearEcho(), kBody);
  Say(RequestBody("", true));
  Say(RequestBody("more", true));
  Say(RequestTrailers());
  EXPECT_TRUE(Silent());
  EXPECT_EQ(sink_->finished, std::nullopt);
}

TEST_F(ExchangeTest, AModelIsRewrittenInPlaceAndTheLengthFollows) {
  auto policies = std::make_shared<routing::Policies>();
  policies->rewrites = {{"rename", 0, {{{"alias"}, {{"m", 1}}}}}};
  director_.SetPolicies(policies);
  const std::string body = R"({ "prompt":[1,2,3],"model" : "alias" ,"seed":12345678901234567890})";
  const std::string rewritten = R"({ "prompt":[1,2,3],"model" : "m" ,"seed":12345678901234567890})";
  Say(RequestHeaders(kPost));
  Say(RequestBody(body, true));
  EXPECT_EQ(HeaderOf(HearDecision(), "content-length"), std::to_string(rewritten.size()));
  EXPECT_EQ(HearEcho(), rewritten);
  EXPECT_EQ(shared().buffered.used(), 0u);
  // The answer's model is left alone.
  Say(ResponseHeaders(kJsonAnswer));
  Hear();
  Say(ResponseBody(R"({"model":"m"})", true));
  EXPECT_EQ(Streamed(Hear().response_body()).body(), R"({"model":"m"})");

  Open();
  Say(WithModes(RequestHeaders(kPost), pb::BUFFERED, pb::STREAMED));
  EXPECT_TRUE(Hear().has_request_headers());
  Say(RequestBody(body, true));
  const auto reply = Hear();
  EXPECT_EQ(reply.request_body().response().body_mutation().body(), rewritten);
  EXPECT_EQ(HeaderOf(reply.request_body().response().header_mutation(), "content-length"),
            std::to_string(rewritten.size()));
}

TEST_F(ExchangeTest, TheSameBodyGetsTheDecisionItGetsFromTheGateway) {
  const auto tokenizer = prompt::Tokenizer::Load(WARMPATH_TOKENIZERS "/qwen3");
  ASSERT_TRUE(tokenizer);
  director_.SetEncoder(
      "", std::make_shared<const prompt::Encoder>(*tokenizer, prompt::EncoderOptions{}));
  std::vector<kv::TokenId> ids(160);
  for (size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<kv::TokenId>(100 + i);
  const kv::BlockKey root = kv::RootKey(16, "", "");
  std::vector<index::BlockAlias> blocks;
  for (const kv::BlockKey key : kv::PrefixKeys(root, ids, 16)) blocks.push_back({key, key});
  const auto warm = fleet_.snapshot()->endpoints[2];
  index_.Store({warm->id, 0}, index::Tier::kGpu, 0, root, blocks);

  const std::string body = fmt::format(R"({{"model":"m","prompt":[{}]}})", fmt::join(ids, ","));
  auto prepared = director_.Prepare("other", prompt::Api::kCompletions, body);
  ASSERT_TRUE(prepared);
  auto outcome = director_.Decide(*prepared);
  ASSERT_TRUE(outcome);
  EXPECT_EQ(outcome->endpoint().address(), warm->address());
  EXPECT_EQ(outcome->predicted_cached_tokens(), 144u);
  outcome->Finish(200);
  EXPECT_EQ(Route(body), warm->address());
  EXPECT_EQ(director_.FindRecord("R1")->endpoints[2].cached_tokens, 144u);
}

struct RefusedBody {
  const char* name;
  std::string body;
  int status;
  const char* details;
};
class RefusedBodies : public ExchangeTest, public ::testing::WithParamInterface<RefusedBody> {};
TEST_P(RefusedBodies, AreAnsweredWithAnErrorOfTheRightKind) {
  options_.max_request_body = 100;
  Say(RequestHeaders(kPost));
  Say(RequestBody(GetParam().body, GetParam().status != 413));
  HearRefusal(GetParam().status, GetParam().details);
}
INSTANTIATE_TEST_SUITE_P(
    All, RefusedBodies,
    ::testing::Values(RefusedBody{"Empty", "", 400, "invalid_request"},
                      RefusedBody{"NotJson", "{\"model\":", 400, "invalid_request"},
                      RefusedBody{"NoObject", "[1]", 400, "invalid_request"},
                      RefusedBody{"UnknownModel", R"({"model":"x","prompt":"a"})", 404,
                                  "model_not_found"},
                      RefusedBody{"TooLarge", std::string(101, ' '), 413, "request_too_large"}),
    [](const auto& info) { return info.param.name; });

TEST_F(ExchangeTest, AnAnnouncedBodyThatIsTooLargeIsRefusedBeforeItComes) {
  for (const char* length : {"67108865", "99999999999999999999999"}) {
    Open();
    HeaderList headers = kPost;
    headers.emplace_back("content-length", length);
    Say(RequestHeaders(headers));
    HearRefusal(413, "request_too_large");
  }
}

TEST_F(ExchangeTest, AllBodiesTogetherAreBounded) {
  options_.max_buffered_bytes = 100;
  Open();
  const auto first_sink = std::move(sink_);
  const auto first = std::move(exchange_);
  first->OnMessage(RequestHeaders(kPost).SerializeAsString());
  first->OnMessage(RequestBody(std::string(80, ' '), false).SerializeAsString());
  sink_ = std::make_unique<MemorySink>();
  exchange_ = std::make_unique<Exchange>(shared(), *sink_);
  Say(RequestHeaders(kPost));
  Say(RequestBody(std::string(21, ' '), false));
  EXPECT_EQ(shared().buffered.used(), 80u);
  first->OnGone();
  HearRefusal(503, "too_many_request_bodies", "rejected-saturated");
  EXPECT_EQ(Value("warmpath_extproc_refused_total{reason=\"memory\"}"), 1);
  Open();
  Route();
}

// ---- large bodies and the pool

class LargeBodies : public ExchangeTest {
 protected:
  const std::string body_ = R"({"model":"m","prompt":")" + std::string(100'000, 'x') + "\"}";
};

TEST_F(LargeBodies, AreReadOffTheLoop) {
  Say(RequestHeaders(kPost));
  Say(RequestBody(body_, true));
  EXPECT_TRUE(Silent());
  EXPECT_TRUE(sink_->timer);
  sink_->RunOffloaded();
  HearDecision();
  EXPECT_EQ(HearEcho(), body_);
  EXPECT_FALSE(sink_->timer);
}

TEST_F(LargeBodies, GoByLoadWhenReadingThemTakesTooLong) {
  Say(RequestHeaders(kPost));
  Say(RequestBody(body_, true));
  exchange_->OnDecisionTimeout();
  HearDecision();
  EXPECT_EQ(HearEcho(), body_);
  EXPECT_EQ(Value("warmpath_extproc_routed_by_load_total{reason=\"timeout\"}"), 1);
  sink_->RunOffloaded();
  EXPECT_TRUE(Silent());
  EXPECT_EQ(InFlight(), 1);
}

TEST_F(LargeBodies, GoByLoadWhenThePoolIsFull) {
  Open();
  sink_->pool_full = true;
  Say(RequestHeaders(kPost));
  Say(RequestBody(body_, true));
  HearDecision();
  EXPECT_EQ(HearEcho(), body_);
  EXPECT_EQ(Value("warmpath_extproc_routed_by_load_total{reason=\"queue_full\"}"), 1);
}

TEST_F(LargeBodies, OfClientsGoneMeanwhileAreForgotten) {
  Say(RequestHeaders(kPost));
  Say(RequestBody(body_, true));
  exchange_->OnGone();
  sink_->RunOffloaded();
  EXPECT_TRUE(Silent());
  EXPECT_EQ(InFlight(), 0);
  EXPECT_EQ(shared().buffered.used(), 0u);
}

// ---- headers

TEST_F(ExchangeTest, ControlHeadersOfClientsAreRemovedAndTheDestinationIsOurs) {
  HeaderList headers = kPost;
  const std::vector<std::string> controls = {"x-gateway-destination-endpoint-subset",
                                             "x-gateway-destination-endpoint-served",
                                             "x-gateway-destination-endpoint-scores",
                                             "x-gateway-destination-endpoint-fallback",
                                             "x-prefiller-host-port",
                                             "x-encoder-hosts-ports",
                                             "x-data-parallel-host-port",
                                             "x-session-token",
                                             "x-llm-d-request-dropped-reason",
                                             "x-llm-d-model-name-rewrite",
                                             "x-gateway-model-name-rewrite",
                                             "x-gateway-inference-objective",
                                             "x-gateway-inference-fairness-id",
                                             "x-llm-d-inference-objective",
                                             "x-llm-d-anything",
                                             "x-warmpath-endpoint"};
  for (const auto& name : controls) {
    if (!name.ends_with("rewrite")) headers.emplace_back(name, "10.6.6.6:1");
  }
  headers.emplace_back("x-gateway-destination-endpoint", "10.6.6.6:1");
  Say(RequestHeaders(headers));
  Say(RequestBody(kBody, true));
  const auto mutation = HearDecision();
  for (const auto& name : controls) EXPECT_TRUE(Removes(mutation, name)) << name;
  EXPECT_FALSE(Removes(mutation, kDestinationHeader));
  EXPECT_NE(HeaderOf(mutation, kDestinationHeader), "10.6.6.6:1");
  for (const char* kept : {"traceparent", "content-type", "x-request-id", "host"}) {
    EXPECT_FALSE(Removes(mutation, kept));
    EXPECT_EQ(HeaderOf(mutation, kept), "");
  }
  EXPECT_EQ(mutation.set_headers_size(), 1) << "no header is set that need not be";
}

TEST_F(ExchangeTest, ARequestWithoutAnIdGetsOne) {
  Say(RequestHeaders({{":path", "/v1/completions"}}));
  Say(RequestBody(kBody, true));
  EXPECT_EQ(HeaderOf(HearDecision(), "x-request-id").size(), 36u);
}

TEST_F(ExchangeTest, AContentLengthThatCameIsTheLengthThatGoes) {
  HeaderList headers = kPost;
  headers.emplace_back("content-length", "5");
  Say(RequestHeaders(headers));
  Say(RequestBody(kBody, true));
  EXPECT_EQ(HeaderOf(HearDecision(), "content-length"), std::to_string(kBody.size()));
}

TEST_F(ExchangeTest, ScoresAreToldWhenAskedFor) {
  options_.emit_endpoint_scores = true;
  Say(RequestHeaders(kPost));
  Say(RequestBody(kBody, true));
  const auto reply = Hear();
  pb::Struct metadata = reply.dynamic_metadata();
  const pb::Struct& scores =
      Nested(Nested(metadata, "envoy.lb"), "x-gateway-destination-endpoint-scores");
  EXPECT_EQ(scores.fields_size(), 4);
  for (const auto& field : scores.fields()) EXPECT_TRUE(field.value().has_number_value());
}

TEST_F(ExchangeTest, ARankIsPinnedWhereThereAreSeveral) {
  fleet_.SetEndpoints(
      *fleet::ParseEndpoints({"http://127.0.0.1:8001,name=a,dp=2,events=none"}, false));
  Say(RequestHeaders(kPost));
  Say(RequestBody(kBody, true));
  const auto mutation = HearDecision();
  EXPECT_EQ(HeaderOf(mutation, "x-data-parallel-rank").size(), 1u);
  EXPECT_FALSE(Removes(mutation, "x-data-parallel-rank"));
}

// ---- subset

struct SubsetCase {
  const char* name;
  pb::Value hint;
  std::string expected;  // "" = 503
};
class Subsets : public ExchangeTest, public ::testing::WithParamInterface<SubsetCase> {};
TEST_P(Subsets, ConfineTheDecision) {
  for (const bool on_body : {false, true}) {
    Open();
    const auto headers = RequestHeaders(kPost);
    const auto body = RequestBody(kBody, true);
    Say(on_body ? WithSubset(headers, Text("127.0.0.1:8003"))
                : WithSubset(headers, GetParam().hint));
    Say(on_body ? WithSubset(body, GetParam().hint) : body);
    if (GetParam().expected.empty()) {
      HearRefusal(503, "no_endpoint_available", "rejected-no-endpoints");
    } else {
      EXPECT_EQ(HeaderOf(HearDecision(), kDestinationHeader), GetParam().expected);
    }
  }
}
pb::Value Number(double number) {
  pb::Value value;
  value.set_number_value(number);
  return value;
}
INSTANTIATE_TEST_SUITE_P(
    All, Subsets,
    ::testing::Values(SubsetCase{"List", List({"127.0.0.1:8002"}), "127.0.0.1:8002"},
                      SubsetCase{"CommaString", Text(" 127.0.0.1:8002 ,1.2.3.4:5"),
                                 "127.0.0.1:8002"},
                      SubsetCase{"AnyPort", List({"10.0.0.9"}), "10.0.0.9:8001"},
                      SubsetCase{"ExactPort", List({"10.0.0.9:9999"}), ""},
                      SubsetCase{"Strangers", List({"1.2.3.4:5"}), ""},
                      SubsetCase{"EmptyList", List({}), ""}, SubsetCase{"EmptyText", Text(""), ""},
                      SubsetCase{"WrongType", Number(7), ""}),
    [](const auto& info) { return info.param.name; });

TEST_F(ExchangeTest, TheSubsetHintCanBeSwitchedOff) {
  options_.use_subset_hint = false;
  Say(WithSubset(RequestHeaders(kPost), List({"1.2.3.4:5"})));
  Say(RequestBody(kBody, true));
  HearDecision();
}

TEST_F(ExchangeTest, OtherMetadataIsNoSubset) {
  Say(WithMetadata(RequestHeaders(kPost), "envoy.lb.subset_hint", "other", List({"1.2.3.4:5"})));
  Say(RequestBody(kBody, true));
  HearDecision();
}

// ---- paths and parsers

struct PathCase {
  const char* path;
  ParserSet parsers;
  std::optional<prompt::Api> api;
  bool passthrough = false;
};
class Paths : public ::testing::TestWithParam<PathCase> {};
TEST_P(Paths, NameTheParser) {
  const auto kind = KindOfBody(GetParam().path, GetParam().parsers);
  ASSERT_EQ(kind.has_value(), GetParam().api.has_value() || GetParam().passthrough);
  if (!kind) return;
  EXPECT_EQ(kind->passthrough, GetParam().passthrough);
  if (GetParam().api) EXPECT_EQ(kind->api, *GetParam().api);
}
constexpr ParserSet kAll{true, true, true};
constexpr ParserSet kOpenAi{true, false, false};
INSTANTIATE_TEST_SUITE_P(
    All, Paths,
    ::testing::Values(PathCase{"/v1/chat/completions", {}, prompt::Api::kChatCompletions},
                      PathCase{"/team/v1/chat/completions?x=1", {}, prompt::Api::kChatCompletions},
                      PathCase{"/v1/completions", {}, prompt::Api::kCompletions},
                      PathCase{"/v1/messages", {}, prompt::Api::kMessages},
                      PathCase{"/v1/responses", {}, prompt::Api::kResponses},
                      PathCase{"/v1/embeddings", {}, prompt::Api::kEmbeddings},
                      PathCase{"/inference/v1/generate", {}, prompt::Api::kGenerate},
                      PathCase{"/inference/v1/generate", kOpenAi, prompt::Api::kCompletions},
                      PathCase{"/elsewhere", {}, prompt::Api::kCompletions},
                      PathCase{"/elsewhere", kAll, std::nullopt, true},
                      PathCase{"/v1/completions", kAll, prompt::Api::kCompletions},
                      PathCase{"/v1/completions", ParserSet{false, true, true}, std::nullopt, true},
                      PathCase{"/v1/completions", ParserSet{false, true, false}, std::nullopt}));

TEST_F(ExchangeTest, ThePathMayStandInAnotherHeader) {
  options_.parsers = ParserSet{false, true, false};
  for (const char* name : {"x-original-path", "x-forwarded-path"}) {
    Open();
    Say(RequestHeaders({{name, "/inference/v1/generate"}, {"x-request-id", "R1"}}));
    Say(RequestBody(R"({"model":"m","token_ids":[1,2]})", true));
    HearDecision();
  }
  Open();
  Say(RequestHeaders({{"x-request-id", "R1"}}));
  HearRefusal(400, "invalid_request");
}

TEST_F(ExchangeTest, PassedThroughBodiesAreNotHeldAndTheirAnswerIsNotSeen) {
  options_.parsers = ParserSet{true, true, true};
  HeaderList headers = kPost;
  headers[1].second = "/v1/audio/transcriptions";
  Say(RequestHeaders(headers));
  HearDecision();
  Say(RequestBody("not json", false));
  EXPECT_EQ(HearEcho(false), "not json");
  EXPECT_EQ(InFlight(), 1);
  Say(RequestBody(std::string(150'000, 'x'), true));
  EXPECT_EQ(HearEcho(), std::string(150'000, 'x'));
  EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
  EXPECT_EQ(InFlight(), 0);
  EXPECT_EQ(Value("warmpath_extproc_aborts_total"), 0);
}

// ---- other body modes

TEST_F(ExchangeTest, ABufferedBodyIsDecidedInTheReplyToIt) {
  Say(WithModes(RequestHeaders(kPost), pb::BUFFERED, pb::BUFFERED));
  const auto first = Hear();
  ASSERT_TRUE(first.has_request_headers());
  EXPECT_FALSE(first.request_headers().has_response());
  Say(RequestBody(kBody, true));
  const auto reply = Hear();
  ASSERT_TRUE(reply.has_request_body());
  const auto& common = reply.request_body().response();
  EXPECT_NE(HeaderOf(common.header_mutation(), kDestinationHeader), "");
  EXPECT_TRUE(common.clear_route_cache());
  EXPECT_FALSE(common.has_body_mutation());
  EXPECT_EQ(reply.dynamic_metadata().fields_size(), 1);
  EXPECT_TRUE(Silent());
  Say(ResponseHeaders(kJsonAnswer));
  Hear();
  Say(ResponseBody("{}", true));
  const auto last = Hear();
  EXPECT_TRUE(last.has_response_body());
  EXPECT_FALSE(last.response_body().response().has_body_mutation());
  EXPECT_TRUE(sink_->complete);
  EXPECT_EQ(InFlight(), 0);
}

class UnseenBodies : public ExchangeTest, public ::testing::WithParamInterface<pb::BodySendMode> {};
TEST_P(UnseenBodies, GoByLoadAndEveryMessageHasOneReply) {
  Say(WithModes(RequestHeaders(kPost), GetParam(), pb::STREAMED));
  HearDecision();
  EXPECT_TRUE(Silent());
  EXPECT_EQ(Value("warmpath_extproc_routed_by_load_total{reason=\"body_mode\"}"), 1);
  for (int i = 0; i < 3; ++i) {
    Say(RequestBody("part", i == 2));
    const auto reply = Hear();
    ASSERT_TRUE(reply.has_request_body());
    EXPECT_FALSE(reply.request_body().has_response());
    EXPECT_TRUE(Silent());
  }
  Say(ResponseHeaders(kEventsAnswer));
  EXPECT_TRUE(Hear().has_response_headers());
  Say(ResponseBody("data: 1\n\n", false));
  EXPECT_TRUE(Hear().has_response_body());
  Say(ResponseTrailers());
  EXPECT_TRUE(Hear().has_response_trailers());
  EXPECT_TRUE(Silent());
  EXPECT_TRUE(sink_->complete);
  EXPECT_EQ(InFlight(), 0);
}
INSTANTIATE_TEST_SUITE_P(All, UnseenBodies,
                         ::testing::Values(pb::NONE, pb::STREAMED, pb::BUFFERED_PARTIAL));

TEST_F(ExchangeTest, AnAnswerWithoutItsBodyEndsWithTheStream) {
  Say(WithModes(RequestHeaders(kPost), pb::FULL_DUPLEX_STREAMED, pb::NONE));
  Say(RequestBody(kBody, true));
  Say(ResponseHeaders(kJsonAnswer));
  EXPECT_TRUE(sink_->complete);
  EXPECT_EQ(InFlight(), 1);
  exchange_.reset();
  EXPECT_EQ(InFlight(), 0);
  EXPECT_EQ(director_.FindRecord("R1")->status, 200);
  EXPECT_FALSE(director_.FindRecord("R1")->aborted);
}

TEST_F(ExchangeTest, AnObserverGetsNoReplies) {
  auto headers = RequestHeaders(kPost);
  headers.set_observability_mode(true);
  Say(headers);
  Say(RequestBody(kBody, true));
  Say(ResponseHeaders(kJsonAnswer, true));
  EXPECT_TRUE(Silent());
  EXPECT_EQ(InFlight(), 0);
  exchange_->OnHalfClose();
  EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
}

// ---- answers

TEST_F(ExchangeTest, AStatusBelongsToTheRecordWhateverItIs) {
  for (const auto& [text, status] : std::vector<std::pair<std::string, int>>{
           {"200", 200}, {"404", 404}, {"503", 503}, {"x", 502}, {"99999999999", 502}}) {
    Open();
    Route();
    Say(ResponseHeaders({{":status", text}, {"content-type", "application/json"}}));
    Say(ResponseBody(R"({"usage":{"prompt_tokens":9}})", true));
    EXPECT_EQ(director_.FindRecord("R1")->status, status);
    EXPECT_EQ(director_.FindRecord("R1")->delivered_prompt_tokens.has_value(), status == 200);
  }
}

TEST_F(ExchangeTest, LargeChunksOfTheAnswerAreSplit) {
  Route();
  Say(ResponseHeaders(kJsonAnswer));
  Hear();
  const std::string answer(200'001, 'y');
  Say(ResponseBody(answer, true));
  std::string echo;
  while (!Silent()) {
    const auto part = Hear();
    EXPECT_LE(Streamed(part.response_body()).body().size(), kMaxChunk);
    echo += Streamed(part.response_body()).body();
    EXPECT_EQ(Streamed(part.response_body()).end_of_stream(), Silent());
  }
  EXPECT_EQ(echo, answer);
}

TEST_F(ExchangeTest, AnswersAreNotReadFasterThanThePeerTakesThem) {
  Route();
  Say(ResponseHeaders(kEventsAnswer));
  sink_->hold = true;
  for (int i = 0; i < 10; ++i) Say(ResponseBody(std::string(60'000, 'y'), false));
  EXPECT_FALSE(sink_->reading);
  sink_->queued = 0;
  exchange_->OnDrain();
  EXPECT_TRUE(sink_->reading);
}

TEST_F(ExchangeTest, ConformanceHeadersChooseAndReport) {
  HeaderList headers = kPost;
  headers.emplace_back("test-epp-endpoint-selection", "9.9.9.9, 127.0.0.1:8002");
  EXPECT_NE(Route(kBody, headers), "") << "without the flag it is an ordinary header";

  shared_.reset();
  exchange_.reset();
  options_.conformance_headers = true;
  const auto served = [](const pb::ProcessingResponse& reply) {
    return HeaderOf(reply.response_headers().response().header_mutation(),
                    "x-conformance-test-served-endpoint");
  };
  for (int i = 0; i < 8; ++i) {
    Open();
    Say(WithSubset(RequestHeaders(headers), List({"127.0.0.1:8003"})));
    Say(RequestBody(kBody, true));
    EXPECT_EQ(HeaderOf(HearDecision(), kDestinationHeader), "127.0.0.1:8002");
    HearEcho();
    if (i % 2 == 0) {
      Say(ResponseHeaders(kJsonAnswer));
      EXPECT_EQ(served(Hear()), "fail: missing destination endpoint served metadata");
    } else {
      Say(WithMetadata(ResponseHeaders(kJsonAnswer), "envoy.lb",
                       "x-gateway-destination-endpoint-served", Text("127.0.0.1:8002")));
      EXPECT_EQ(served(Hear()), "127.0.0.1:8002");
    }
  }
  Open();
  headers.back().second = "9.9.9.9";
  Say(RequestHeaders(headers, true));
  HearRefusal(503, "no_endpoint_available", "rejected-no-endpoints");
}

// ---- what a peer may not do

struct Abuse {
  const char* name;
  std::vector<pb::ProcessingRequest> messages;
  GrpcStatus status = GrpcStatus::kInvalidArgument;
};
class Abuses : public ExchangeTest, public ::testing::WithParamInterface<Abuse> {};
TEST_P(Abuses, EndThatStreamAndLeaveNothingBehind) {
  for (const auto& message : GetParam().messages) Say(message);
  EXPECT_EQ(sink_->finished, GetParam().status);
  const size_t answers = sink_->sent.size();
  Say(RequestHeaders(kGet, true));
  Say(ResponseHeaders(kJsonAnswer, true));
  EXPECT_EQ(sink_->sent.size(), answers) << "an ended stream says nothing more";
  EXPECT_EQ(InFlight(), 0);
  EXPECT_EQ(shared().buffered.used(), 0u);
  EXPECT_EQ(Value("warmpath_extproc_protocol_errors_total"), 1);
}
HeaderList ManyHeaders(size_t count, size_t bytes) {
  HeaderList headers = kPost;
  for (size_t i = 0; i < count; ++i)
    headers.emplace_back(fmt::format("h{}", i), std::string(bytes, 'x'));
  return headers;
}
INSTANTIATE_TEST_SUITE_P(
    All, Abuses,
    ::testing::Values(
        Abuse{"Nothing", {pb::ProcessingRequest()}},
        Abuse{"ResponseFirst", {ResponseHeaders(kJsonAnswer)}},
        Abuse{"ResponseBodyFirst", {ResponseBody("x", true)}},
        Abuse{"ResponseTrailersFirst", {ResponseTrailers()}},
        Abuse{"BodyFirst", {RequestBody("x", false)}}, Abuse{"TrailersFirst", {RequestTrailers()}},
        Abuse{"HeadersTwice", {RequestHeaders(kPost), RequestHeaders(kPost)}},
        Abuse{"HeadersTwiceRouted", {RequestHeaders(kGet, true), RequestHeaders(kGet, true)}},
        Abuse{"ResponseHeadersTwice",
              {RequestHeaders(kGet, true), ResponseHeaders(kJsonAnswer),
               ResponseHeaders(kJsonAnswer)}},
        Abuse{"ResponseBodyBeforeHeaders", {RequestHeaders(kGet, true), ResponseBody("x", true)}},
        Abuse{"ResponseTrailersBeforeHeaders", {RequestHeaders(kGet, true), ResponseTrailers()}},
        Abuse{"UnknownMode",
              {WithModes(RequestHeaders(kPost), static_cast<pb::BodySendMode>(77), pb::NONE)},
              GrpcStatus::kUnimplemented},
        Abuse{"GrpcMode",
              {WithModes(RequestHeaders(kPost), pb::FULL_DUPLEX_STREAMED, pb::GRPC)},
              GrpcStatus::kUnimplemented},
        Abuse{
            "ManyHeaders", {RequestHeaders(ManyHeaders(2000, 1))}, GrpcStatus::kResourceExhausted},
        Abuse{"HugeHeaders",
              {RequestHeaders(ManyHeaders(100, 16'000))},
              GrpcStatus::kResourceExhausted}),
    [](const auto& info) { return info.param.name; });

TEST_F(ExchangeTest, BytesThatAreNoMessageEndTheStream) {
  Open();
  exchange_->OnMessage("\xff\xff\xff");
  EXPECT_EQ(sink_->finished, GrpcStatus::kInvalidArgument);
}

TEST_F(ExchangeTest, APeerThatHasSaidEverythingStillGetsItsAnswers) {
  const std::string body = R"({"model":"m","prompt":")" + std::string(100'000, 'x') + "\"}";
  Say(RequestHeaders(kPost));
  Say(RequestBody(body, true));
  exchange_->OnHalfClose();
  EXPECT_EQ(sink_->finished, std::nullopt);
  sink_->RunOffloaded();
  HearDecision();
  EXPECT_EQ(HearEcho(), body);
  EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
  EXPECT_EQ(InFlight(), 0);
  Open();
  Say(RequestHeaders(kPost));
  exchange_->OnHalfClose();
  EXPECT_EQ(sink_->finished, GrpcStatus::kCancelled);
}

TEST(Messages, AStreamedBodyIsWhatTheMessageClassesWouldWrite) {
  for (const size_t size : {0u, 1u, 127u, 128u, 16'384u, 62'000u}) {
    for (const bool end_of_stream : {false, true}) {
      const std::string bytes(size, 'z');
      pb::ProcessingResponse expected;
      auto* const streamed = expected.mutable_response_body()
                                 ->mutable_response()
                                 ->mutable_body_mutation()
                                 ->mutable_streamed_response();
      streamed->set_body(bytes);
      streamed->set_end_of_stream(end_of_stream);
      EXPECT_EQ(StreamedBody(Direction::kResponse, bytes, end_of_stream),
                expected.SerializeAsString());
    }
  }
}

}  // namespace
}  // namespace warmpath::extproc
