#include "extproc/request_head.h"

#include <algorithm>
#include <charconv>

#include "base/units.h"
#include "routing/request_headers.h"

namespace warmpath::extproc {
namespace {

constexpr std::string_view kDefaultPath = "/v1/completions";
constexpr std::string_view kTestSelection = "test-epp-endpoint-selection";
constexpr std::string_view kSubsetSpace = "envoy.lb.subset_hint";
constexpr std::string_view kSubsetKey = "x-gateway-destination-endpoint-subset";

void AddEndpoints(std::string_view list, std::vector<std::string>& out) {
  for (const std::string_view part : Split(list, ',')) {
    const std::string_view entry = Trim(part);
    if (!entry.empty() && out.size() < kMaxSubset) out.emplace_back(entry);
  }
}

bool IsControlHeader(std::string_view name) {
  const auto& names = ControlHeaders();
  return std::find(names.begin(), names.end(), name) != names.end();
}

// Plain data, of what no header list of a proxy would contain twice.
struct Paths {
  std::string_view path;
  std::string_view original;
  std::string_view forwarded;
};

}  // namespace

const std::vector<std::string_view>& ControlHeaders() {
  static const std::vector<std::string_view> names = {
      "x-gateway-destination-endpoint-subset",
      "x-gateway-destination-endpoint-served",
      "x-gateway-destination-endpoint-scores",
      "x-gateway-inference-objective",
      "x-gateway-inference-fairness-id",
      "x-gateway-model-name-rewrite",
      "x-llm-d-inference-objective",
      "x-llm-d-inference-fairness-id",
      "x-llm-d-model-name-rewrite",
      "x-llm-d-slo-ttft-ms",
      "x-llm-d-slo-tpot-ms",
      "x-slo-ttft-ms",
      "x-slo-tpot-ms",
      "x-llm-d-request-dropped-reason",
      "x-prefiller-host-port",
      "x-encoder-hosts-ports",
      "x-data-parallel-host-port",
      "x-data-parallel-rank",
      "x-kv-cache-source-host-port",
      "x-session-token",
  };
  return names;
}

Result<RequestHead> ReadRequestHead(const RequestMessage& message, bool conformance_headers) {
  const std::vector<RequestMessage::Header>& list = message.headers();
  if (list.size() > kMaxHeaders) return Fail(Code::kOutOfBounds, "too many request headers");
  RequestHead head;
  Paths paths;
  size_t bytes = 0;
  for (const auto& [name, value] : list) {
    bytes += name.size() + value.size();
    if (bytes > kMaxHeaderBytes) return Fail(Code::kOutOfBounds, "request headers too large");
    if (name.empty()) continue;
    if (name.front() == ':') {
      if (name == ":path") paths.path = value;
      continue;
    }
    if (name == "content-length") {
      size_t length = 0;
      const auto [end, error] = std::from_chars(value.data(), value.data() + value.size(), length);
      if (error == std::errc::result_out_of_range) length = SIZE_MAX;
      if (error != std::errc::invalid_argument && end == value.data() + value.size()) {
        head.content_length = length;
      }
    } else if (name == "x-original-path") {
      paths.original = value;
    } else if (name == "x-forwarded-path") {
      paths.forwarded = value;
    } else if (conformance_headers && name == kTestSelection) {
      head.test_selection = true;
      if (!head.attributes.subset) head.attributes.subset.emplace();
      AddEndpoints(value, *head.attributes.subset);
    } else if (routing::IsRoutingHeader(name) && name != kDestinationHeader &&
               !IsControlHeader(name)) {
      head.unwanted.emplace_back(name);
    }
    head.attributes.headers.Add(name, value);
  }
  head.request_id = routing::RequestIdOf(head.attributes.headers);
  head.own_request_id = head.attributes.headers.Get("x-request-id") != head.request_id;
  head.path = !paths.path.empty()        ? paths.path
              : !paths.original.empty()  ? paths.original
              : !paths.forwarded.empty() ? paths.forwarded
                                         : kDefaultPath;
  return head;
}

std::optional<std::vector<std::string>> ReadSubset(const RequestMessage& message) {
  const pb::Value* const hint = message.FindMetadata(kSubsetSpace, kSubsetKey);
  if (hint == nullptr) return std::nullopt;
  std::vector<std::string> subset;
  if (hint->has_string_value()) {
    AddEndpoints(hint->string_value(), subset);
  } else if (hint->has_list_value()) {
    for (const pb::Value& entry : hint->list_value().values()) {
      if (entry.has_string_value()) AddEndpoints(entry.string_value(), subset);
    }
  }
  return subset;
}

std::optional<BodyKind> KindOfBody(std::string_view path, const ParserSet& parsers) {
  using prompt::Api;
  const Api api = prompt::ApiOfPathSuffix(path);
  switch (api) {
    case Api::kGenerate:
      if (parsers.vllmhttp) return BodyKind{api};
      break;
    case Api::kTokenize:
    case Api::kDetokenize:
    case Api::kOther:
      break;
    default:
      if (parsers.openai) return BodyKind{api};
      break;
  }
  if (parsers.passthrough) return BodyKind{.passthrough = true};
  if (parsers.openai) return BodyKind{Api::kCompletions};
  return std::nullopt;
}

}  // namespace warmpath::extproc
