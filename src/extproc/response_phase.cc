#include "extproc/response_phase.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "base/units.h"

namespace warmpath::extproc {
namespace {

using routing::UsageScanner;

constexpr std::string_view kServedSpace = "envoy.lb";
constexpr std::string_view kServedKey = "x-gateway-destination-endpoint-served";
constexpr std::string_view kServedEcho = "x-conformance-test-served-endpoint";
constexpr char kServedMissing[] = "fail: missing destination endpoint served metadata";

int ReadStatus(std::string_view text) {
  int status = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), status);
  const bool valid = error == std::errc() && end == text.data() + text.size() && text.size() == 3 &&
                     status >= 100 && status <= 599;
  return valid ? status : 502;
}

bool IsSuccess(int status) {
  return status >= 200 && status < 300;
}

}  // namespace

const char* ResponsePhase::OnHeaders(const pb::ProcessingRequest& message, pb::BodySendMode mode,
                                     std::optional<routing::Outcome>& outcome) {
  if (started()) return "response headers twice";
  state_ = State::kBody;
  ReadHeaders(message, outcome);

  Scratch scratch;
  auto* const reply = scratch.Make<pb::ProcessingResponse>();
  pb::HeadersResponse* const headers = reply->mutable_response_headers();
  const pb::Value* const served =
      FindMetadata(message.metadata_context(), kServedSpace, kServedKey);
  const std::string_view served_by =
      served != nullptr ? served->string_value() : std::string_view();
  if (conformance_headers_) {
    SetHeader(*headers->mutable_response()->mutable_header_mutation(), kServedEcho,
              served_by.empty() ? kServedMissing : served_by);
  }
  if (outcome) {
    const auto& destinations = outcome->destinations();
    if (served_by != destinations.front() &&
        std::find(destinations.begin(), destinations.end(), served_by) != destinations.end()) {
      outcome->Served(served_by);
    }
    for (const auto& [name, value] : outcome->effects().response_headers) {
      SetHeader(*headers->mutable_response()->mutable_header_mutation(), ToLower(name), value);
    }
  }
  sink_.Send(Serialize(*reply));
  if (message.response_headers().end_of_stream()) {
    Complete(outcome);
  } else if (mode == pb::NONE) {
    unseen_ = true;
    sink_.MarkComplete();
  }
  return nullptr;
}

void ResponsePhase::ReadHeaders(const pb::ProcessingRequest& message,
                                std::optional<routing::Outcome>& outcome) {
  std::string_view status = "200";
  std::string_view content_type;
  bool encoded = false;
  for (const pb::HeaderValue& header : message.response_headers().headers().headers()) {
    const std::string& name = header.key();
    if (name == ":status") {
      status = ValueOf(header);
    } else if (name == "content-type") {
      content_type = ValueOf(header);
    } else if (name == "content-encoding") {
      encoded = true;
    }
  }
  status_ = ReadStatus(status);
  const UsageScanner::Kind kind = UsageScanner::KindOf(content_type, encoded);
  usage_.emplace(IsSuccess(status_) ? kind : UsageScanner::Kind::kNone);
  if (outcome) outcome->ResponseHead(status_, kind == UsageScanner::Kind::kEvents);
}

const char* ResponsePhase::OnBody(const pb::HttpBody& part, pb::BodySendMode mode,
                                  std::optional<routing::Outcome>& outcome) {
  if (!started()) return "response body before its headers";
  const bool duplex = mode == pb::FULL_DUPLEX_STREAMED;
  if (complete() && duplex) return nullptr;  // some proxies send end_of_stream twice
  if (duplex) {
    std::string_view rest = part.body();
    do {
      const std::string_view piece = rest.substr(0, kMaxChunk);
      rest.remove_prefix(piece.size());
      sink_.Send(StreamedBody(Direction::kResponse, piece, part.end_of_stream() && rest.empty()));
    } while (!rest.empty());
  } else {
    Scratch scratch;
    auto* const reply = scratch.Make<pb::ProcessingResponse>();
    reply->mutable_response_body();
    sink_.Send(Serialize(*reply));
  }
  if (complete()) return nullptr;
  if (outcome && !part.body().empty() && IsSuccess(status_)) {
    outcome->BodyChunk(part.body().size());
    usage_->Feed(part.body());
  }
  if (part.end_of_stream()) Complete(outcome);
  return nullptr;
}

const char* ResponsePhase::OnTrailers(std::optional<routing::Outcome>& outcome) {
  if (!started()) return "response trailers before the headers";
  if (complete()) return nullptr;
  Scratch scratch;
  auto* const reply = scratch.Make<pb::ProcessingResponse>();
  reply->mutable_response_trailers();
  sink_.Send(Serialize(*reply));
  Complete(outcome);
  return nullptr;
}

void ResponsePhase::Complete(std::optional<routing::Outcome>& outcome) {
  state_ = State::kComplete;
  sink_.MarkComplete();
  if (outcome) {
    if (const auto usage = usage_->Finish()) {
      outcome->Usage(usage->prompt_tokens, usage->cached_tokens, usage->output_tokens);
    }
    outcome->Finish(status_);
    outcome.reset();
  }
  usage_.reset();
}

}  // namespace warmpath::extproc
