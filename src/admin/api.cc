#include "admin/api.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <optional>
#include <utility>

#include "admin/assets.h"
#include "admin/card.h"
#include "base/units.h"
#include "codec/json.h"
#include "prompt/request.h"

namespace warmpath::admin {
namespace {

using codec::Json;
using codec::JsonArray;
using codec::JsonObject;

constexpr std::string_view kRequestsPrefix = "/api/v1/requests/";
constexpr size_t kMaxListed = 1000;
constexpr size_t kDefaultListed = 50;
// The page needs its own script, style and API; nothing else may load, and nobody may frame it.
constexpr char kContentSecurityPolicy[] =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

net::HttpResponse Answer(int status, std::string type, std::string body) {
  return {status,
          {{"Content-Type", std::move(type)},
           {"Cache-Control", "no-store"},
           {"X-Content-Type-Options", "nosniff"},
           {"Content-Security-Policy", kContentSecurityPolicy},
           {"Referrer-Policy", "no-referrer"}},
          std::move(body)};
}

net::HttpResponse JsonAnswer(const JsonObject& object) {
  return Answer(200, "application/json", codec::DumpJson(object));
}

net::HttpResponse ErrorAnswer(int status, std::string_view message, std::string_view code = {}) {
  return Answer(status, "application/json", ErrorBody(status, message, code));
}

net::HttpResponse FromError(const Error& error) {
  switch (error.code) {
    case Code::kInvalidArgument:
    case Code::kUnsupported:
      return ErrorAnswer(400, error.message);
    case Code::kNotFound:
      return ErrorAnswer(404, error.message, "model_not_found");
    case Code::kOutOfBounds:
      return ErrorAnswer(429, error.message);
    case Code::kUnavailable:
    case Code::kTimeout:
    case Code::kCancelled:
      return ErrorAnswer(503, error.message);
    case Code::kInternal:
      break;
  }
  return ErrorAnswer(500, error.message);
}

// `path` of explain and tokenize: the API whose body this is.
Result<prompt::Api> ApiOfQuery(const net::HttpRequest& request) {
  const std::string path =
      net::QueryParameter(request.query(), "path").value_or("/v1/chat/completions");
  const prompt::Api api = prompt::ApiOfPath(path);
  if (api == prompt::Api::kOther) {
    return Fail(
        Code::kInvalidArgument,
        fmt::format("path \"{}\" is no inference path; use for example /v1/chat/completions "
                    "or /v1/completions",
                    path));
  }
  return api;
}

std::string PercentDecode(std::string_view text) {
  // A path segment has no '+' rule; shielding it lets the query decoder serve for both.
  std::string shielded = "v=";
  for (const char c : text) {
    if (c == '+') {
      shielded += "%2B";
    } else if (c == '&' || c == '=') {
      shielded += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    } else {
      shielded += c;
    }
  }
  return net::QueryParameter(shielded, "v").value_or("");
}

const routing::EndpointVerdict* Chosen(const routing::DecisionRecord& record) {
  for (const routing::EndpointVerdict& verdict : record.endpoints) {
    if (verdict.name == record.chosen) return &verdict;
  }
  return nullptr;
}

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

// A line of the list of requests; everything else is asked for by id.
JsonObject Summary(const routing::DecisionRecord& record) {
  const routing::EndpointVerdict* chosen = Chosen(record);
  JsonObject out;
  out["request_id"] = record.request_id;
  out["at"] = ToSeconds(record.at.time_since_epoch());
  out["model"] = record.model;
  out["chosen"] = record.chosen.empty() ? Json(nullptr) : Json(record.chosen);
  out["why"] = WhyChosen(record);
  out["prompt_tokens"] = record.prompt_tokens;
  out["predicted_cached_tokens"] = chosen == nullptr ? 0 : chosen->expected_cached_tokens;
  out["delivered_cached_tokens"] = OrNull(record.delivered_cached_tokens);
  out["status"] = record.status == 0 ? Json(nullptr) : Json(record.status);
  out["aborted"] = record.aborted;
  out["attempts"] = record.attempts;
  out["decision_ms"] = record.decision_ms;
  out["first_byte_ms"] = OrNull(record.first_byte_ms);
  out["total_ms"] = OrNull(record.total_ms);
  return out;
}

// Whether the body gives a list of prompts, even of one: the answer is a list then.
bool HasPromptList(prompt::Api api, const std::string& body) {
  if (api != prompt::Api::kCompletions) return false;
  const auto json = codec::ParseJson(body, {.max_bytes = body.size()});
  if (!json) return false;
  const Json* prompts = codec::Find(*json, "prompt");
  return prompts != nullptr && prompts->is_array() && !prompts->get_array().empty() &&
         !prompts->get_array().front().is_number();
}

JsonObject ToJson(const routing::TokenizedView& view) {
  JsonObject out;
  out["text"] = view.text;
  out["token_ids"] = JsonArray(view.token_ids.begin(), view.token_ids.end());
  // 64-bit keys as hex text: JavaScript and jq would round them as numbers.
  JsonArray keys;
  for (const kv::BlockKey key : view.keys) keys.emplace_back(fmt::format("{:016x}", key));
  out["keys"] = std::move(keys);
  return out;
}

}  // namespace

std::string ErrorBody(int status, std::string_view message, std::string_view code) {
  JsonObject error;
  error["message"] = message;
  error["type"] = status >= 500   ? "server_error"
                  : status == 429 ? "rate_limit_error"
                                  : "invalid_request_error";
  error["param"] = nullptr;
  error["code"] = code.empty() ? Json(nullptr) : Json(code);
  return codec::DumpJson(JsonObject{{"error", std::move(error)}});
}

Api::Api(AdminDeps deps) : deps_(std::move(deps)), started_(SystemClock().Now()) {}

net::HttpResponse Api::Handle(const net::HttpRequest& request) const {
  const std::string_view path = request.path();
  struct Route {
    bool post = false;
    std::function<net::HttpResponse()> run;
  };
  Route route;
  if (path == "/metrics") {
    route.run = [&] {
      return Answer(200, "text/plain; version=0.0.4; charset=utf-8", deps_.metrics.Render());
    };
  } else if (path == "/healthz") {
    route.run = [] { return Answer(200, "text/plain; charset=utf-8", "ok\n"); };
  } else if (path == "/readyz") {
    route.run = [&] { return Ready(); };
  } else if (path == "/api/v1/status") {
    route.run = [&] { return Status(); };
  } else if (path == "/api/v1/endpoints") {
    route.run = [&] { return Endpoints(); };
  } else if (path == "/api/v1/index") {
    route.run = [&] { return Index(); };
  } else if (path == "/api/v1/requests") {
    route.run = [&] { return Requests(request.query()); };
  } else if (path.starts_with(kRequestsPrefix)) {
    route.run = [&] { return Request(path.substr(kRequestsPrefix.size())); };
  } else if (path == "/api/v1/explain") {
    route = {true, [&] { return Explain(request); }};
  } else if (path == "/api/v1/tokenize") {
    route = {true, [&] { return Tokenize(request); }};
  } else if (const Asset* asset = FindAsset(path)) {
    route.run = [asset] {
      return Answer(200, std::string(asset->type), std::string(asset->bytes));
    };
  } else {
    return ErrorAnswer(404, fmt::format("no such path: {}", path), "not_found");
  }
  const bool allowed =
      route.post ? request.method == "POST" : request.method == "GET" || request.method == "HEAD";
  if (!allowed) {
    net::HttpResponse answer = ErrorAnswer(
        405, fmt::format("{} takes {} only", path, route.post ? "POST" : "GET and HEAD"),
        "method_not_allowed");
    answer.headers.Add("Allow", route.post ? "POST" : "GET, HEAD");
    return answer;
  }
  return route.run();
}

net::HttpResponse Api::Ready() const {
  const Readiness readiness = deps_.readiness();
  if (readiness.ready) return Answer(200, "text/plain; charset=utf-8", "ready\n");
  return Answer(503, "text/plain; charset=utf-8", "not ready: " + readiness.why_not + "\n");
}

net::HttpResponse Api::Status() const {
  const Readiness readiness = deps_.readiness();
  const auto snapshot = deps_.fleet.snapshot();
  routing::PredictionStats total;
  int64_t inflight = 0;
  uint64_t healthy = 0;
  for (const auto& endpoint : snapshot->endpoints) {
    const routing::PredictionStats stats = deps_.director.Predictions(endpoint->id);
    total.requests += stats.requests;
    total.exact += stats.exact;
    total.predicted_tokens += stats.predicted_tokens;
    total.delivered_tokens += stats.delivered_tokens;
    total.parity_checked += stats.parity_checked;
    total.parity_equal += stats.parity_equal;
    inflight += deps_.fleet.inflight().Load(endpoint->id).requests;
    if (endpoint->health == fleet::Health::kHealthy) ++healthy;
  }
  const routing::Director::LookupStats lookups = deps_.director.lookup_stats();
  JsonObject out;
  out["ready"] = readiness.ready;
  out["why_not"] = readiness.ready ? Json(nullptr) : Json(readiness.why_not);
  out["uptime_seconds"] = ToSeconds(SystemClock().Now() - started_);
  out["endpoints"] = snapshot->endpoints.size();
  out["healthy_endpoints"] = healthy;
  const std::string note = deps_.director.encoder_note();
  const auto encoder = deps_.director.encoder();
  JsonObject tokenizer;
  if (deps_.tokenizer) tokenizer = ToJson(deps_.tokenizer());
  tokenizer["loaded"] = encoder != nullptr;
  tokenizer["backend"] = encoder ? Json(encoder->tokenizer().backend()) : Json(nullptr);
  tokenizer["note"] = note.empty() ? Json(nullptr) : Json(note);
  out["tokenizer"] = std::move(tokenizer);
  out["inflight"] = inflight;
  out["lookups"] = lookups.lookups;
  out["hits"] = lookups.hits;
  out["prediction"] = JsonObject{{"requests", total.requests},
                                 {"exact", total.exact},
                                 {"predicted_tokens", total.predicted_tokens},
                                 {"delivered_tokens", total.delivered_tokens}};
  out["token_parity"] =
      JsonObject{{"checked", total.parity_checked}, {"equal", total.parity_equal}};
  return JsonAnswer(out);
}

net::HttpResponse Api::Endpoints() const {
  const auto snapshot = deps_.fleet.snapshot();
  std::map<fleet::EndpointId, std::vector<events::PublisherStatus>> publishers;
  if (deps_.events != nullptr) {
    for (events::PublisherStatus& status : deps_.events->status()) {
      publishers[status.endpoint].push_back(std::move(status));
    }
  }
  const std::string note = deps_.director.encoder() ? "" : deps_.director.encoder_note();
  std::optional<TokenizerInfo> tokenizer;
  if (deps_.tokenizer) tokenizer = deps_.tokenizer();
  JsonArray cards;
  for (const auto& endpoint : snapshot->endpoints) {
    cards.push_back(
        MakeCard({*endpoint, publishers[endpoint->id], deps_.index.EndpointBlocks(endpoint->id),
                  deps_.fleet.inflight().Load(endpoint->id),
                  deps_.director.Predictions(endpoint->id), note, SystemClock().Now(), tokenizer}));
  }
  return JsonAnswer(JsonObject{{"endpoints", std::move(cards)}});
}

net::HttpResponse Api::Index() const {
  const index::IndexStats stats = deps_.index.stats();
  const routing::Director::LookupStats lookups = deps_.director.lookup_stats();
  JsonObject out;
  out["blocks"] = stats.blocks;
  out["entries"] = stats.entries;
  out["bytes"] = stats.bytes;
  out["budget_bytes"] = stats.budget_bytes;
  out["admissions"] = stats.admissions;
  out["evictions"] = JsonObject{{"removed", stats.evicted_removed},
                                {"cleared", stats.evicted_cleared},
                                {"budget", stats.evicted_budget}};
  out["duplicate_stores"] = stats.duplicate_stores;
  out["unknown_removals"] = stats.unknown_removals;
  out["lookups"] = lookups.lookups;
  out["hits"] = lookups.hits;
  return JsonAnswer(out);
}

net::HttpResponse Api::Requests(std::string_view query) const {
  size_t count = kDefaultListed;
  if (const auto text = net::QueryParameter(query, "count")) {
    const auto value = ParseInt(*text);
    if (!value || *value < 1 || *value > static_cast<int64_t>(kMaxListed)) {
      return ErrorAnswer(400, fmt::format("count must be a whole number 1..{}", kMaxListed));
    }
    count = static_cast<size_t>(*value);
  }
  JsonArray list;
  for (const routing::DecisionRecord& record : deps_.director.NewestRecords(count)) {
    list.push_back(Summary(record));
  }
  return JsonAnswer(JsonObject{{"requests", std::move(list)}});
}

net::HttpResponse Api::Request(std::string_view encoded_id) const {
  const auto record = deps_.director.FindRecord(PercentDecode(encoded_id));
  if (!record) {
    return ErrorAnswer(
        404, "no such request: it was not routed here, or is older than what is kept", "not_found");
  }
  JsonObject out = routing::ToJson(*record, true);
  out["why"] = WhyChosen(*record);
  return JsonAnswer(out);
}

net::HttpResponse Api::Explain(const net::HttpRequest& request) const {
  const auto api = ApiOfQuery(request);
  if (!api) return FromError(api.error());
  const auto record = deps_.director.Explain(*api, request.body);
  if (!record) return FromError(record.error());
  JsonObject out = routing::ToJson(*record, false);
  out["why"] = WhyChosen(*record);
  return JsonAnswer(out);
}

net::HttpResponse Api::Tokenize(const net::HttpRequest& request) const {
  const auto api = ApiOfQuery(request);
  if (!api) return FromError(api.error());
  const auto views = deps_.director.Tokenize(*api, request.body);
  if (!views) return FromError(views.error());
  if (views->size() == 1 && !HasPromptList(*api, request.body))
    return JsonAnswer(ToJson(views->front()));
  JsonArray list;
  for (const routing::TokenizedView& view : *views) list.push_back(ToJson(view));
  return Answer(200, "application/json", codec::DumpJson(Json(std::move(list))));
}

}  // namespace warmpath::admin
