// Scripted exchanges against a real Director: what Envoy sends goes in, what it would get comes
// out. Transcripts, bodies, body modes and answers.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <map>

#include "extproc/exchange_testing.h"
#include "kv/keys.h"

namespace warmpath::extproc {
namespace {

using namespace testing;  // NOLINT: of this module

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

TEST_F(ExchangeTest, ARewrittenBufferedBodyCountsUntilThePeerHasTakenIt) {
  auto policies = std::make_shared<routing::Policies>();
  policies->rewrites = {{"rename", 0, {{{"alias"}, {{"m", 1}}}}}};
  director_.SetPolicies(policies);
  const std::string body =
      fmt::format(R"({{"model":"alias","prompt":[1],"user":"{}"}})", std::string(kSendAhead, 'u'));
  for (const bool gone : {false, true}) {
    Open();
    Say(WithModes(RequestHeaders(kPost), pb::BUFFERED, pb::STREAMED));
    sink_->hold = true;
    Say(RequestBody(body, true));
    sink_->RunOffloaded();
    EXPECT_GE(shared().buffered.used(), kSendAhead);
    gone ? exchange_->OnGone() : exchange_->OnDrain();
    EXPECT_EQ(shared().buffered.used(), 0u);
  }
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

TEST_F(LargeBodies, StayWholeForThePoolWhenTheirModelIsRewritten) {
  auto policies = std::make_shared<routing::Policies>();
  policies->rewrites = {{"rename", 0, {{{"m"}, {{"other", 1}}}}}};
  director_.SetPolicies(policies);
  const auto snapshot = fleet_.snapshot();
  for (const auto& endpoint : snapshot->endpoints) {
    fleet_.UpdateForTest(endpoint->id,
                         [](fleet::Endpoint& e) { e.models = {{"other", "other", ""}}; });
  }
  Say(RequestHeaders(kPost));
  Say(RequestBody(body_, true));
  exchange_->OnDecisionTimeout();
  HearDecision();
  EXPECT_EQ(HearEcho().substr(0, 16), R"({"model":"other")");
  EXPECT_EQ(shared().buffered.used(), body_.size());  // what the pool holds
  sink_->RunOffloaded();
  EXPECT_TRUE(Silent());
  EXPECT_EQ(shared().buffered.used(), 0u);
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

TEST_F(ExchangeTest, AnAnswerOfWhichNothingIsSentStaysBookedUntilTheEngineIsDone) {
  Say(WithModes(RequestHeaders(kPost), pb::FULL_DUPLEX_STREAMED, pb::NONE));
  Say(RequestBody(kBody, true));
  exchange_.reset();
  EXPECT_EQ(InFlight(), 1);
  const auto snapshot = fleet_.snapshot();
  for (const auto& endpoint : snapshot->endpoints) {
    fleet_.UpdateForTest(endpoint->id, [this](fleet::Endpoint& e) {
      e.load.at = clock_.Now() + std::chrono::seconds(1);
    });
  }
  clock_.Advance(std::chrono::seconds(1));
  director_.Tick();
  EXPECT_EQ(InFlight(), 0);
  EXPECT_TRUE(director_.FindRecord("R1")->unseen);
  EXPECT_EQ(director_.FindRecord("R1")->status, 0);
}

TEST_F(ExchangeTest, AStreamEndsWithItsRequestWhereAnswersGoPast) {
  options_.bypass_responses = true;
  Route();
  EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
  EXPECT_EQ(InFlight(), 1);
  exchange_.reset();
  EXPECT_EQ(InFlight(), 1);
  EXPECT_TRUE(director_.FindRecord("R1")->unseen);
  EXPECT_FALSE(director_.FindRecord("R1")->aborted);
  fleet_.SetEndpoints({});
  director_.Tick();
  EXPECT_EQ(Value("llm_d_epp_request_running{fairness_id=\"default-flow\",model_name=\"m\","
                  "priority=\"0\",target_model_name=\"m\"}"),
            0);
  EXPECT_EQ(Value("llm_d_epp_request_ttft_seconds_count"), -1);
}

TEST_F(ExchangeTest, TrailersAndRequestsWithoutABodyGoBeforeTheStreamEnds) {
  options_.bypass_responses = true;
  Say(RequestHeaders(kPost));
  Say(RequestBody(kBody, false));
  Say(RequestTrailers());
  HearDecision();
  EXPECT_EQ(HearEcho(false), kBody);
  EXPECT_TRUE(Hear().has_request_trailers());
  EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
  Open();
  Say(RequestHeaders(kGet, true));
  HearDecision();
  EXPECT_TRUE(Silent());
  EXPECT_EQ(sink_->finished, GrpcStatus::kOk);
}

TEST_F(ExchangeTest, AnAnswerThatHasBegunDoesNotGoPast) {
  options_.bypass_responses = true;
  Say(RequestHeaders(kPost));
  Say(ResponseHeaders(kJsonAnswer));
  EXPECT_TRUE(Hear().has_response_headers());
  Say(RequestBody(kBody, true));
  HearDecision();
  HearEcho();
  EXPECT_FALSE(sink_->finished);
  Say(ResponseBody("{}", true));
  EXPECT_TRUE(Hear().has_response_body());
  EXPECT_EQ(InFlight(), 0);
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

}  // namespace
}  // namespace warmpath::extproc
