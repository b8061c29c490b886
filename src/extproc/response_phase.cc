#include "extproc/response_phase.h"

#include <algorithm>
#include <array>
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

void SendStreamed(Sink& sink, Direction direction, std::string_view piece, bool end_of_stream) {
  const StreamedBodyFrame frame(direction, piece.size(), end_of_stream);
  const std::array<std::string_view, 3> pieces = {frame.head(), piece, frame.tail()};
  sink.SendPieces(pieces);
}

const char* ResponsePhase::OnHeaders(const RequestMessage& message, pb::BodySendMode mode,
                                     std::optional<routing::Outcome>& outcome) {
  if (started()) return "response headers twice";
  state_ = State::kBody;
  ReadHeaders(message, outcome);

  const pb::Value* const served = message.FindMetadata(kServedSpace, kServedKey);
  const std::string_view served_by =
      served != nullptr ? served->string_value() : std::string_view();
  if (outcome) {
    const auto& destinations = outcome->destinations();
    if (served_by != destinations.front() &&
        std::find(destinations.begin(), destinations.end(), served_by) != destinations.end()) {
      outcome->Served(served_by);
    }
  }
  const bool plain = !outcome || outcome->effects().response_headers.empty();
  if (plain && !conformance_headers_) {
    sink_.Send(EmptyReply(Phase::kResponseHeaders));
  } else {
    Scratch scratch;
    auto* const reply = scratch.Make<pb::ProcessingResponse>();
    pb::HeaderMutation& mutation =
        *reply->mutable_response_headers()->mutable_response()->mutable_header_mutation();
    if (conformance_headers_) {
      SetHeader(mutation, kServedEcho, served_by.empty() ? kServedMissing : served_by);
    }
    if (outcome) {
      for (const auto& [name, value] : outcome->effects().response_headers) {
        SetHeader(mutation, ToLower(name), value);
      }
    }
    sink_.Send(Serialize(*reply));
  }
  if (message.end_of_stream()) {
    Complete(outcome);
  } else if (mode == pb::NONE) {
    unseen_ = true;
    sink_.MarkComplete();
  }
  return nullptr;
}

void ResponsePhase::ReadHeaders(const RequestMessage& message,
                                std::optional<routing::Outcome>& outcome) {
  std::string_view status = "200";
  std::string_view content_type;
  bool encoded = false;
  for (const auto& [name, value] : message.headers()) {
    if (name == ":status") {
      status = value;
    } else if (name == "content-type") {
      content_type = value;
    } else if (name == "content-encoding") {
      encoded = true;
    }
  }
  status_ = ReadStatus(status);
  const UsageScanner::Kind kind = UsageScanner::KindOf(content_type, encoded);
  usage_.emplace(IsSuccess(status_) ? kind : UsageScanner::Kind::kNone);
  if (outcome) outcome->ResponseHead(status_, kind == UsageScanner::Kind::kEvents);
}

const char* ResponsePhase::OnBody(const RequestMessage& part, pb::BodySendMode mode,
                                  std::optional<routing::Outcome>& outcome) {
  if (!started()) return "response body before its headers";
  const bool duplex = mode == pb::FULL_DUPLEX_STREAMED;
  if (complete() && duplex) return nullptr;  // some proxies send end_of_stream twice
  if (duplex) {
    std::string_view rest = part.body();
    do {
      const std::string_view piece = rest.substr(0, kMaxChunk);
      rest.remove_prefix(piece.size());
      SendStreamed(sink_, Direction::kResponse, piece, part.end_of_stream() && rest.empty());
    } while (!rest.empty());
  } else {
    sink_.Send(EmptyReply(Phase::kResponseBody));
  }
  if (complete()) return nullptr;
  if (outcome && !part.body().empty() && IsSuccess(status_)) {
    outcome->BodyChunk(part.body().size());
    if (part.end_of_stream()) {
      Complete(outcome, part.body());
      return nullptr;
    }
    usage_->Feed(part.body());
  }
  if (part.end_of_stream()) Complete(outcome);
  return nullptr;
}

const char* ResponsePhase::OnTrailers(std::optional<routing::Outcome>& outcome) {
  if (!started()) return "response trailers before the headers";
  if (complete()) return nullptr;
  sink_.Send(EmptyReply(Phase::kResponseTrailers));
  Complete(outcome);
  return nullptr;
}

void ResponsePhase::Complete(std::optional<routing::Outcome>& outcome, std::string_view rest) {
  state_ = State::kComplete;
  sink_.MarkComplete();
  if (outcome) {
    if (const auto usage = usage_->Finish(rest)) {
      outcome->Usage(usage->prompt_tokens, usage->cached_tokens, usage->output_tokens);
    }
    outcome->Finish(status_);
    outcome.reset();
  }
  usage_.reset();
}

}  // namespace warmpath::extproc
