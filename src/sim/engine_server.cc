#include "sim/engine_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/hash.h"
#include "base/log.h"
#include "base/units.h"
#include "sim/event_wire.h"
#include "sim/generation_run.h"

namespace warmpath::sim {
namespace {

using codec::Find;
using codec::FindString;
using codec::Json;

constexpr std::string_view kEngineVersion = "0.32.0";
constexpr std::string_view kNotFound = R"({"detail":"Not Found"})";
constexpr std::string_view kMethodNotAllowed = R"({"detail":"Method Not Allowed"})";
constexpr size_t kMaxSequences = 16'384;  // answers of one request

int64_t UnixSeconds() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             SystemClock().WallNow().time_since_epoch())
      .count();
}

std::string HashJson(const BlockHash& hash, uint32_t size, EventHashWidth width) {
  if (width == EventHashWidth::k256) return fmt::format("\"{}\"", Hex(std::span(hash).first(size)));
  return std::to_string(Low64(hash, size));
}

}  // namespace

EngineServer::EngineServer(net::Loop& loop, SimOptions options,
                           std::shared_ptr<const TextModel> text, Publisher* publisher,
                           std::vector<size_t> streams,
                           std::vector<Publisher::StreamAddress> sources)
    : loop_(loop),
      options_(std::move(options)),
      text_(std::move(text)),
      publisher_(publisher),
      streams_(std::move(streams)),
      sources_(std::move(sources)),
      started_(UnixSeconds()) {
  api_.text = text_.get();
  api_.model_names = options_.served_model_names;
  api_.loras = options_.lora_modules;
  api_.max_model_len = options_.max_model_len;
  api_.ranks = options_.data_parallel_size;

  const std::string shape =
      options_.data_parallel_size > 1 ? fmt::format("-dp{}", options_.data_parallel_size) : "";
  response_.fingerprint = fmt::format("vllm-{}{}-{:08x}", kEngineVersion, shape,
                                      static_cast<uint32_t>(Xxh3(options_.model, options_.seed)));
  response_.prompt_tokens_details = options_.enable_prompt_tokens_details;
  response_.block_size = options_.block_size;

  CoreOptions core;
  core.blocks = options_.num_gpu_blocks;
  core.block_size = options_.block_size;
  core.max_num_seqs = options_.max_num_seqs;
  core.max_num_batched_tokens = options_.max_num_batched_tokens;
  core.max_loras = options_.max_loras;
  core.prefix_caching = options_.enable_prefix_caching;
  core.timing = options_.timing;
  core.hash = MakeBlockHash(options_.hash_algo, *options_.hash_seed);
  const WireOptions wire{options_.block_size, DigestSize(options_.hash_algo),
                         options_.events_format, options_.hash_width};
  std::vector<const EngineCore*> cores;
  for (uint32_t rank = 0; rank < options_.data_parallel_size; ++rank) {
    auto publish = [this, rank, wire](std::vector<CacheEvent> events) {
      if (streams_.empty()) return;
      publisher_->Publish(streams_[rank],
                          EncodeEvents(events, rank, SystemClock().WallNow(), wire));
    };
    ranks_.push_back(std::make_unique<RankDriver>(loop_, core, std::move(publish)));
    cores.push_back(&ranks_.back()->core());
  }
  metrics_ = std::make_unique<SimMetrics>(options_, api_.model_names.front(), std::move(cores));
}

EngineServer::~EngineServer() = default;

Status EngineServer::Listen() {
  net::HttpServerOptions http;
  http.server_name = "uvicorn";
  WP_TRY(server_, net::HttpServer::Listen(loop_, {options_.host, options_.port}, std::move(http),
                                          [this](const Exchange& exchange) { Handle(exchange); }));
  return {};
}

void EngineServer::StopServing(Duration deadline) {
  server_->Stop(deadline);
  server_.reset();
}

void EngineServer::StopSteps() {
  for (auto& rank : ranks_) rank->Stop();
}

void EngineServer::Handle(const Exchange& exchange) {
  static constexpr Route kRoutes[] = {
      {"/v1/completions", "POST", &EngineServer::Completions},
      {"/v1/chat/completions", "POST", &EngineServer::Chat},
      {"/v1/models", "GET", &EngineServer::Models},
      {"/tokenize", "POST", &EngineServer::Tokenize},
      {"/detokenize", "POST", &EngineServer::Detokenize},
      {"/health", "GET", &EngineServer::Empty},
      {"/ping", "GET, POST", &EngineServer::Empty},
      {"/version", "GET", &EngineServer::Version},
      {"/load", "GET", &EngineServer::Load},
      {"/metrics", "GET", &EngineServer::Metrics},
      {"/reset_prefix_cache", "POST", &EngineServer::ResetPrefixCache},
      {"/kv_event_sources", "GET", &EngineServer::EventSources},
      {"/is_sleeping", "GET", &EngineServer::NotSleeping},
      {"/debug/kv", "GET", &EngineServer::DebugKv},
      {"/admin/config", "GET, POST", &EngineServer::Config},
  };
  const net::HttpRequest& request = exchange->request();
  std::string_view path = request.path();
  const bool slash = path.size() > 1 && path.ends_with('/');
  if (slash) path.remove_suffix(1);
  for (const Route& route : kRoutes) {
    if (route.path != path) continue;
    if (slash) {
      net::Headers headers = CommonHeaders(exchange, "");
      const std::string host(request.headers.Get("host").value_or(options_.host));
      headers.Add("location", fmt::format("http://{}{}", host, path));
      exchange->Respond(307, std::move(headers), "");
      return;
    }
    if (!Authorized(request)) return Respond(exchange, 401, R"({"error":"Unauthorized"})");
    if (route.method.find(request.method) == std::string_view::npos) {
      net::Headers headers = CommonHeaders(exchange, "application/json");
      headers.Add("allow", std::string(route.method));
      exchange->Respond(405, std::move(headers), std::string(kMethodNotAllowed));
      return;
    }
    return (this->*route.handle)(exchange);
  }
  Respond(exchange, 404, std::string(kNotFound));
}

bool EngineServer::Authorized(const net::HttpRequest& request) const {
  if (options_.api_keys.empty() || !request.path().starts_with("/v1")) return true;
  const std::string_view given = request.headers.Get("authorization").value_or("");
  return given.starts_with("Bearer ") &&
         std::ranges::find(options_.api_keys, given.substr(7)) != options_.api_keys.end();
}

net::Headers EngineServer::CommonHeaders(const Exchange& exchange,
                                         std::string_view content_type) const {
  net::Headers headers;
  if (!content_type.empty()) headers.Add("content-type", std::string(content_type));
  headers.Add("vary", "Origin");
  if (options_.enable_request_id_headers) {
    const auto given = exchange->request().headers.Get("x-request-id");
    headers.Add("x-request-id", given ? std::string(*given) : RandomUuid());
  }
  return headers;
}

void EngineServer::Respond(const Exchange& exchange, int status, std::string body,
                           std::string_view content_type) {
  exchange->Respond(status, CommonHeaders(exchange, content_type), std::move(body));
}

void EngineServer::Completions(const Exchange& exchange) {
  Generate(false, exchange);
}
void EngineServer::Chat(const Exchange& exchange) {
  Generate(true, exchange);
}

void EngineServer::Generate(bool chat, const Exchange& exchange) {
  auto parsed = ParseGeneration(chat, exchange->request(), api_);
  if (!parsed) return Respond(exchange, parsed.error());
  if (parsed->prompts.size() * parsed->n > kMaxSequences) {
    return Respond(exchange, EngineError(400, fmt::format("a request may have at most {} answers",
                                                          kMaxSequences)));
  }
  ResponseContext context = response_;
  context.created = UnixSeconds();
  auto run = std::make_shared<GenerationRun>(exchange, std::move(*parsed), std::move(context),
                                             text_, *metrics_, CommonHeaders(exchange, ""));
  run->Start(options_.seed, options_.max_model_len, [this](const Generation& request) {
    const uint32_t rank = PickRank(request);
    return std::pair(rank, ranks_[rank].get());
  });
}

uint32_t EngineServer::PickRank(const Generation& request) {
  if (request.rank) return *request.rank;
  const auto count = static_cast<uint32_t>(ranks_.size());
  uint32_t best = next_rank_;
  for (uint32_t i = 1; i < count; ++i) {
    const uint32_t rank = (next_rank_ + i) % count;
    if (ranks_[rank]->in_flight() < ranks_[best]->in_flight()) best = rank;
  }
  next_rank_ = (best + 1) % count;
  return best;
}

void EngineServer::Models(const Exchange& exchange) {
  std::string data;
  auto add = [&](const std::string& id, const std::string& root, const std::string& parent,
                 bool base) {
    if (!data.empty()) data += ",";
    data += fmt::format(
        R"({{"id":{},"object":"model","created":{},"owned_by":"vllm","root":{},"parent":{},"max_model_len":{},"permission":[{{"id":"modelperm-{:016x}","object":"model_permission","created":{},"allow_create_engine":false,"allow_sampling":true,"allow_logprobs":true,"allow_search_indices":false,"allow_view":true,"allow_fine_tuning":false,"organization":"*","group":null,"is_blocking":false}}]}})",
        JsonQuote(id), started_, JsonQuote(root), base ? "null" : JsonQuote(parent),
        base ? std::to_string(options_.max_model_len) : "null", Xxh3(id, options_.seed), started_);
  };
  for (const std::string& name : api_.model_names) add(name, options_.model, "", true);
  for (const LoraModule& lora : api_.loras)
    add(lora.name, lora.path, api_.model_names.front(), false);
  Respond(exchange, 200, fmt::format(R"({{"object":"list","data":[{}]}})", data));
}

void EngineServer::Tokenize(const Exchange& exchange) {
  auto body = ParseBody(exchange->request());
  if (!body) return Respond(exchange, body.error());
  if (auto model = FindModel(*body, api_); !model) return Respond(exchange, model.error());
  TextModel::Tokens tokens;
  const Json* prompt = Find(*body, "prompt");
  if (prompt != nullptr && prompt->is_string()) {
    auto encoded = text_->EncodeText(std::string_view(prompt->get_string()),
                                     codec::FindBool(*body, "add_special_tokens").value_or(true));
    if (!encoded) return Respond(exchange, EngineError(400, encoded.error().message));
    tokens = std::move(*encoded);
  } else if (Find(*body, "messages") != nullptr) {
    auto encoded = text_->Encode(prompt::Api::kChatCompletions, exchange->request().body);
    if (!encoded) return Respond(exchange, EngineError(400, encoded.error().message));
    tokens = std::move(encoded->front());
  } else {
    return Respond(
        exchange,
        prompt != nullptr
            ? ValidationError("string_type", "body.prompt", "Input should be a valid string",
                              codec::DumpJson(*prompt))
            : ValidationError("missing", "body.prompt", "Field required",
                              fmt::format("<dict of {} items>", body->get_object().size())));
  }
  std::string strings = "null";
  if (codec::FindBool(*body, "return_token_strs").value_or(false)) {
    strings.clear();
    for (const kv::TokenId id : tokens) {
      strings += strings.empty() ? "[" : ",";
      strings += JsonQuote(text_->Decode(std::span(&id, 1)));
    }
    strings += strings.empty() ? "[]" : "]";
  }
  Respond(exchange, 200,
          fmt::format(R"({{"count":{},"max_model_len":{},"tokens":[{}],"token_strs":{}}})",
                      tokens.size(), options_.max_model_len, fmt::join(tokens, ","), strings));
}

void EngineServer::Detokenize(const Exchange& exchange) {
  auto body = ParseBody(exchange->request());
  if (!body) return Respond(exchange, body.error());
  if (auto model = FindModel(*body, api_); !model) return Respond(exchange, model.error());
  const Json* list = Find(*body, "tokens");
  if (list == nullptr || !list->is_array()) {
    const std::string input =
        list != nullptr && list->is_string() ? std::string(list->get_string()) : "None";
    return Respond(exchange, ValidationError("list_type", "body.tokens",
                                             "Input should be a valid list", input));
  }
  TextModel::Tokens tokens;
  for (const Json& id : list->get_array()) {
    if (id.is_int64() && id.get_int64() >= 0 && id.get_int64() < text_->vocab_size()) {
      tokens.push_back(static_cast<kv::TokenId>(id.get_int64()));
    }
  }
  Respond(exchange, 200, fmt::format(R"({{"prompt":{}}})", JsonQuote(text_->Decode(tokens))));
}

void EngineServer::Empty(const Exchange& exchange) {
  Respond(exchange, 200, "", "");
}

void EngineServer::Version(const Exchange& exchange) {
  Respond(exchange, 200, fmt::format(R"({{"version":"{}"}})", kEngineVersion));
}

void EngineServer::Load(const Exchange& exchange) {
  Respond(exchange, 200, R"({"server_load":0})");
}

void EngineServer::Metrics(const Exchange& exchange) {
  Respond(exchange, 200, metrics_->Render(), "text/plain; version=0.0.4; charset=utf-8");
}

void EngineServer::ResetPrefixCache(const Exchange& exchange) {
  const bool force =
      net::QueryParameter(exchange->request().query(), "reset_running_requests").value_or("") ==
      "true";
  struct Outcome {
    size_t left;
    bool success = true;
  };
  auto outcome = std::make_shared<Outcome>(Outcome{ranks_.size()});
  for (auto& rank : ranks_) {
    rank->Reset(force, [this, exchange, outcome](bool success) {
      outcome->success &= success;
      if (--outcome->left > 0) return;
      Respond(exchange, 200, fmt::format(R"({{"success":{}}})", outcome->success));
    });
  }
}

void EngineServer::EventSources(const Exchange& exchange) {
  std::string body;
  for (size_t rank = 0; rank < sources_.size(); ++rank) {
    const KvEventsConfig& config = options_.kv_events;
    body += fmt::format(
        R"({}"{}":{{"enable_kv_cache_events":true,"publisher":"zmq","endpoint":{},"replay_endpoint":{},"buffer_steps":{},"hwm":{},"max_queue_size":{},"topic":{}}})",
        rank == 0 ? "" : ",", rank, JsonQuote(sources_[rank].events),
        sources_[rank].replay.empty() ? "null" : JsonQuote(sources_[rank].replay),
        config.buffer_steps, config.hwm, config.max_queue_size, JsonQuote(config.topic));
  }
  Respond(exchange, 200, fmt::format("{{{}}}", body));
}

void EngineServer::NotSleeping(const Exchange& exchange) {
  Respond(exchange, 200, R"({"is_sleeping":false})");
}

void EngineServer::DebugKv(const Exchange& exchange) {
  const uint32_t size = DigestSize(options_.hash_algo);
  std::string body = fmt::format(R"({{"block_size":{},"ranks":[)", options_.block_size);
  for (size_t rank = 0; rank < ranks_.size(); ++rank) {
    if (rank > 0) body += ",";
    body += fmt::format(R"({{"rank":{},"blocks":[)", rank);
    bool first = true;
    for (const BlockPool::Resident& block : ranks_[rank]->core().pool().Residents()) {
      body += fmt::format(
          R"({}{{"hash":{},"parent":{},"token_ids":[{}],"tier":"GPU","references":{}}})",
          std::exchange(first, false) ? "" : ",", HashJson(block.hash, size, options_.hash_width),
          block.parent ? HashJson(*block.parent, size, options_.hash_width) : "null",
          fmt::join(block.tokens, ","), block.references);
    }
    body += "]}";
  }
  body += "]}";
  Respond(exchange, 200, std::move(body));
}

void EngineServer::Config(const Exchange& exchange) {
  StepTiming timing = ranks_[0]->core().timing();
  if (exchange->request().method == "POST") {
    auto body = ParseBody(exchange->request());
    if (!body) return Respond(exchange, body.error());
    for (const auto& [key, value] : body->get_object()) {
      const std::string_view name = key;
      if (name == "time-factor-under-load") {
        const auto factor = codec::FindDouble(*body, name);
        if (!factor || *factor < 1)
          return Respond(exchange,
                         EngineError(400, "time-factor-under-load must be at least 1", name));
        timing.load_factor = *factor;
        continue;
      }
      Duration* target = name == "prefill-overhead"         ? &timing.prefill_overhead
                         : name == "prefill-time-per-token" ? &timing.prefill_per_token
                         : name == "inter-token-latency"    ? &timing.inter_token_latency
                                                            : nullptr;
      if (target == nullptr)
        return Respond(exchange, EngineError(400, fmt::format("unknown setting {}", name), name));
      const auto duration = ParseDuration(FindString(*body, name).value_or(""));
      if (!duration || *duration < Duration::zero()) {
        return Respond(
            exchange,
            EngineError(400, fmt::format("{} must be a duration such as \"5ms\"", name), name));
      }
      *target = *duration;
    }
    for (auto& rank : ranks_) rank->SetTiming(timing);
  }
  auto micros = [](Duration d) { return fmt::format("{}us", d.count() / 1000); };
  Respond(
      exchange, 200,
      fmt::format(
          R"({{"prefill-overhead":"{}","prefill-time-per-token":"{}","inter-token-latency":"{}","time-factor-under-load":{}}})",
          micros(timing.prefill_overhead), micros(timing.prefill_per_token),
          micros(timing.inter_token_latency), timing.load_factor));
}

}  // namespace warmpath::sim
