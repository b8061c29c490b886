// What an exchange takes from headers, metadata and paths, and what it refuses of a peer.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "extproc/exchange_testing.h"

namespace warmpath::extproc {
namespace {

using namespace testing;  // NOLINT: of this module

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
  const pb::Struct& metadata = reply.dynamic_metadata();
  const pb::Struct& scores =
      StructIn(StructIn(metadata, "envoy.lb"), "x-gateway-destination-endpoint-scores");
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

TEST_F(ExchangeTest, ConformanceHeadersChooseAndReport) {
  HeaderList headers = kPost;
  headers.emplace_back("test-epp-endpoint-selection", "9.9.9.9, 127.0.0.1:8002");
  EXPECT_NE(Route(kBody, headers), "") << "without the flag it is an ordinary header";

  exchange_.reset();
  shared_.reset();
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

}  // namespace
}  // namespace warmpath::extproc
