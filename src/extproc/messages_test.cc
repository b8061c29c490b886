// What is written and read without message objects, against the message classes.
#include "extproc/messages.h"

#include <gtest/gtest.h>

#include <random>
#include <string>

#include "extproc/request_message.h"
#include "extproc/testing.h"

namespace warmpath::extproc {
namespace {

using namespace testing;  // NOLINT: of this module

const std::vector<size_t> kSizes = {0, 1, 100, 127, 128, 16'383, 16'384, 62'000};

TEST(Messages, AStreamedBodyIsWhatTheMessageClassesWouldWrite) {
  for (const Direction direction : {Direction::kRequest, Direction::kResponse}) {
    for (const size_t size : kSizes) {
      for (const bool end_of_stream : {false, true}) {
        const std::string bytes(size, 'z');
        pb::ProcessingResponse expected;
        auto* const body = direction == Direction::kRequest ? expected.mutable_request_body()
                                                            : expected.mutable_response_body();
        auto* const streamed =
            body->mutable_response()->mutable_body_mutation()->mutable_streamed_response();
        streamed->set_body(bytes);
        streamed->set_end_of_stream(end_of_stream);
        const StreamedBodyFrame frame(direction, size, end_of_stream);
        EXPECT_EQ(std::string(frame.head()) + bytes + std::string(frame.tail()),
                  expected.SerializeAsString());
      }
    }
  }
}

TEST(Messages, EmptyRepliesAreOfTheirPhase) {
  const auto expect = [](Phase phase, const pb::ProcessingResponse& expected) {
    EXPECT_EQ(EmptyReply(phase), expected.SerializeAsString());
  };
  pb::ProcessingResponse reply;
  reply.mutable_request_headers();
  expect(Phase::kRequestHeaders, reply);
  reply.mutable_response_headers();
  expect(Phase::kResponseHeaders, reply);
  reply.mutable_request_body();
  expect(Phase::kRequestBody, reply);
  reply.mutable_response_body();
  expect(Phase::kResponseBody, reply);
  reply.mutable_request_trailers();
  expect(Phase::kRequestTrailers, reply);
  reply.mutable_response_trailers();
  expect(Phase::kResponseTrailers, reply);
}

TEST(Messages, ADecisionIsWhatTheMessageClassesWouldWrite) {
  for (const size_t size : kSizes) {
    const std::string destination(size, 'd');
    HeaderChanges changes;
    changes.Set("left-over", "x");
    changes.Clear();
    changes.Set("x-a", destination);
    changes.Set("x-empty", "");
    changes.Remove("x-a");  // it is set
    changes.Remove("x-b");
    changes.Append(RemovedHeaders({"x-c", "x-d"}));
    const Scores scores = {{"10.0.0.1:8000", 0.25}, {"10.0.0.2:8000", -1e300}};

    pb::ProcessingResponse expected;
    auto* const common = expected.mutable_request_headers()->mutable_response();
    common->set_clear_route_cache(true);
    pb::HeaderMutation& mutation = *common->mutable_header_mutation();
    SetHeader(mutation, "x-a", destination);
    SetHeader(mutation, "x-empty", "");
    for (const char* name : {"x-b", "x-c", "x-d"}) mutation.add_remove_headers(name);
    auto* const space = expected.mutable_dynamic_metadata()->add_fields();
    space->set_key("envoy.lb");
    auto* const lb = space->mutable_value()->mutable_struct_value();
    auto* const field = lb->add_fields();
    field->set_key(std::string(kDestinationHeader));
    field->mutable_value()->set_string_value(destination);
    auto* const all = lb->add_fields();
    all->set_key("x-gateway-destination-endpoint-scores");
    for (const auto& [name, score] : scores) {
      auto* const entry = all->mutable_value()->mutable_struct_value()->add_fields();
      entry->set_key(name);
      entry->mutable_value()->set_number_value(score);
    }

    std::string metadata;
    AppendDestination(metadata, destination, &scores);
    const HeadersReplyFrame frame(changes.bytes().size(), metadata.size());
    pb::ProcessingResponse read;
    ASSERT_TRUE(read.ParseFromString(std::string(frame.head()) + std::string(changes.bytes()) +
                                     std::string(frame.middle()) + metadata));
    // An empty value is written where protobuf leaves it out.
    EXPECT_EQ(read.SerializeAsString(), expected.SerializeAsString());
    lb->mutable_fields()->RemoveLast();
    pb::Struct plain;
    metadata.clear();
    AppendDestination(metadata, destination, nullptr);
    ASSERT_TRUE(plain.ParseFromString(metadata));
    EXPECT_EQ(plain.SerializeAsString(), expected.dynamic_metadata().SerializeAsString());
  }
}

// ---- reading

RequestMessage::Kind KindOf(const pb::ProcessingRequest& message) {
  using Kind = RequestMessage::Kind;
  switch (message.request_case()) {
    case pb::ProcessingRequest::kRequestHeaders:
      return Kind::kRequestHeaders;
    case pb::ProcessingRequest::kResponseHeaders:
      return Kind::kResponseHeaders;
    case pb::ProcessingRequest::kRequestBody:
      return Kind::kRequestBody;
    case pb::ProcessingRequest::kResponseBody:
      return Kind::kResponseBody;
    case pb::ProcessingRequest::kRequestTrailers:
      return Kind::kRequestTrailers;
    case pb::ProcessingRequest::kResponseTrailers:
      return Kind::kResponseTrailers;
    case pb::ProcessingRequest::REQUEST_NOT_SET:
      break;
  }
  return Kind::kNone;
}

void ExpectHeaders(const pb::HttpHeaders& expected, const RequestMessage& message) {
  const auto& headers = expected.headers().headers();
  ASSERT_EQ(message.headers().size(), static_cast<size_t>(headers.size()));
  for (int i = 0; i < headers.size(); ++i) {
    const auto& [name, value] = message.headers()[static_cast<size_t>(i)];
    EXPECT_EQ(name, headers[i].key());
    EXPECT_EQ(value, headers[i].raw_value().empty() ? headers[i].value() : headers[i].raw_value());
  }
  EXPECT_EQ(message.end_of_stream(), expected.end_of_stream());
}

void ExpectBody(const pb::HttpBody& expected, const RequestMessage& message) {
  EXPECT_EQ(message.body(), expected.body());
  EXPECT_EQ(message.end_of_stream(), expected.end_of_stream());
}

// Reads `bytes` both ways; whether the message classes take them.
bool Compare(const std::string& bytes) {
  pb::ProcessingRequest expected;
  const bool valid = expected.ParseFromString(bytes);
  RequestMessage message;
  const bool read = message.Read(bytes);
  if (!valid) return false;
  EXPECT_TRUE(read);
  EXPECT_EQ(message.kind(), KindOf(expected));
  if (expected.has_request_headers()) ExpectHeaders(expected.request_headers(), message);
  if (expected.has_response_headers()) ExpectHeaders(expected.response_headers(), message);
  if (expected.has_request_body()) ExpectBody(expected.request_body(), message);
  if (expected.has_response_body()) ExpectBody(expected.response_body(), message);
  EXPECT_EQ(message.observability_mode(), expected.observability_mode());
  EXPECT_EQ(message.modes().has_value(), expected.has_protocol_config());
  if (message.modes()) {
    EXPECT_EQ(message.modes()->request, expected.protocol_config().request_body_mode());
    EXPECT_EQ(message.modes()->response, expected.protocol_config().response_body_mode());
  }
  return true;
}

std::vector<std::string> SomeMessages() {
  HeaderList many = {{":method", "POST"}, {":path", "/v1/completions"}, {"empty", ""}};
  for (int i = 0; i < 40; ++i) many.emplace_back("x-" + std::to_string(i), std::string(i * 7, 'v'));
  auto values = RequestHeaders({{"a", "raw"}});
  auto* const both = values.mutable_request_headers()->mutable_headers()->add_headers();
  both->set_key("b");
  both->set_value("value");
  auto watching = RequestHeaders(many);
  watching.set_observability_mode(true);
  std::vector<std::string> out;
  for (const auto& message :
       {WithModes(RequestHeaders(many), pb::FULL_DUPLEX_STREAMED, pb::NONE), values, watching,
        RequestHeaders({}, true), RequestBody("", true), RequestBody(std::string(300, 'b'), false),
        RequestTrailers(), ResponseHeaders({{":status", "200"}}, true), ResponseBody("data", false),
        ResponseTrailers(), pb::ProcessingRequest(),
        WithSubset(RequestHeaders(many), List({"10.0.0.1:1", "b"})),
        WithMetadata(ResponseBody("x", true), "envoy.lb", "other", Text("y"))}) {
    out.push_back(message.SerializeAsString());
  }
  // Modes nobody knows, negative ones, and fields nobody knows, of every type.
  out.push_back(std::string("\x5a\x0d\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\x10\x63", 15));
  out.push_back(out.front() + std::string("\x78\x05\x81\x01"
                                          "12345678"
                                          "\x8a\x01\x02hi\x95\x01"
                                          "1234",
                                          23));
  return out;
}

TEST(RequestMessage, ReadsWhatTheMessageClassesRead) {
  for (const std::string& message : SomeMessages()) EXPECT_TRUE(Compare(message));
}

TEST(RequestMessage, SeveralContentsAreReadAsTheMessageClassesReadThem) {
  const std::vector<std::string> messages = SomeMessages();
  for (const std::string& first : messages) {
    for (const std::string& second : messages) EXPECT_TRUE(Compare(first + second));
  }
}

TEST(RequestMessage, WhatIsCutOrChangedIsReadAsTheMessageClassesReadIt) {
  std::mt19937 random(7);
  int valid = 0;
  for (const std::string& message : SomeMessages()) {
    for (size_t size = 0; size < message.size(); ++size) {
      // Of metadata that name nobody only the ends are looked for.
      RequestMessage cut;
      const bool read = cut.Read(std::string_view(message).substr(0, size));
      pb::ProcessingRequest expected;
      if (expected.ParseFromString(message.substr(0, size))) {
        EXPECT_TRUE(read);
      }
    }
    for (int i = 0; i < 300 && !message.empty(); ++i) {
      std::string changed = message;
      changed[random() % changed.size()] = static_cast<char>(random());
      // Groups are refused here alone.
      const bool group = changed.find_first_of(
                             "\x03\x0b\x13\x1b\x23\x2b\x33\x3b\x43\x4b\x53\x5b"
                             "\x63\x6b\x73\x7b") != std::string::npos;
      if (!group) valid += Compare(changed) ? 1 : 0;
    }
  }
  EXPECT_GT(valid, 500);
}

TEST(RequestMessage, FindsMetadataOfDestinations) {
  constexpr std::string_view kKey = "x-gateway-destination-endpoint-served";
  const auto find = [&](const std::string& bytes, std::string_view space) -> std::string {
    RequestMessage message;
    EXPECT_TRUE(message.Read(bytes));
    const pb::Value* const value = message.FindMetadata(space, kKey);
    return value == nullptr ? "none" : value->string_value();
  };
  const auto with = [&](std::string_view space, std::string_view key, std::string_view text) {
    return WithMetadata(ResponseHeaders({}), space, key, Text(text)).SerializeAsString();
  };
  EXPECT_EQ(find(with("envoy.lb", kKey, "a"), "envoy.lb"), "a");
  EXPECT_EQ(find(with("envoy.lb", kKey, "a"), "else"), "none");
  EXPECT_EQ(find(with("envoy.lb", "other", "a"), "envoy.lb"), "none");
  // The last entry of a map counts.
  EXPECT_EQ(find(with("envoy.lb", kKey, "a") + with("envoy.lb", kKey, "b"), "envoy.lb"), "b");
  EXPECT_EQ(find(with("envoy.lb", kKey, "a") + with("envoy.lb", "other", "b"), "envoy.lb"), "none");
  EXPECT_EQ(find(with("envoy.lb", "other", "b") + with("envoy.lb", kKey, "a"), "envoy.lb"), "a");
  std::string broken = with("envoy.lb", kKey, "a");
  broken.back() = '\x7f';
  RequestMessage message;
  EXPECT_TRUE(message.Read(broken));  // the text's last byte
  broken[broken.find(kKey) - 1] = '\x7f';
  RequestMessage other;
  EXPECT_FALSE(other.Read(broken));
}

}  // namespace
}  // namespace warmpath::extproc
