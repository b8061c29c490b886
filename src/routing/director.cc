#include "routing/director.h"

#include <fmt/format.h>

#include <cmath>

#include "base/log.h"
#include "kv/keys.h"
#include "routing/beat.h"
#include "routing/matching.h"
#include "routing/state.h"

namespace warmpath::routing {
namespace {

using EndpointPtr = std::shared_ptr<const fleet::Endpoint>;

constexpr uint32_t kDefaultBlockSize = 16;  // the engines' own default, where none is known yet

bool HasPrompt(prompt::Api api) {
  return api == prompt::Api::kChatCompletions || api == prompt::Api::kCompletions;
}

// Whether the tokenizer of `encoder_model` is the one of `model`: some endpoint serves both
// (aliases and adapters share a base).
bool SharesTokenizer(const fleet::Snapshot& snapshot, const std::string& model,
                     const std::string& encoder_model) {
  if (model.empty() || encoder_model.empty() || model == encoder_model) return true;
  for (const EndpointPtr& endpoint : snapshot.endpoints) {
    if (endpoint->FindModel(model) != nullptr && endpoint->FindModel(encoder_model) != nullptr)
      return true;
  }
  return false;
}

int HttpStatusOf(Code code) {
  switch (code) {
    case Code::kNotFound:
      return 404;
    case Code::kOutOfBounds:
      return 429;
    case Code::kInvalidArgument:
      return 400;
    default:
      return 503;
  }
}

std::shared_ptr<DecisionRecord> MakeRecord(const Prepared& prepared,
                                           const scheduling::Request& request,
                                           const scheduling::Decision& decision,
                                           const scheduling::Scheduler& scheduler) {
  auto record = std::make_shared<DecisionRecord>();
  record->request_id = prepared.request_id;
  record->model = prepared.view.model;
  record->prompt_tokens = prepared.prompt_tokens;
  record->tokens_note = prepared.tokens_note;
  for (const scheduling::ProfilePlugin& scorer : scheduler.scorers()) {
    record->weights.emplace_back(scorer.plugin, scorer.weight);
  }
  for (size_t i = 0; i < request.candidates.size(); ++i) {
    const scheduling::Candidate& candidate = request.candidates[i];
    EndpointVerdict verdict;
    verdict.name = candidate.endpoint->name();
    verdict.url = candidate.endpoint->spec.url.ToString();
    verdict.rank = candidate.rank;
    verdict.block_size = candidate.block_size;
    verdict.matched_blocks = candidate.matched_blocks;
    verdict.cached_tokens = candidate.cached_tokens;
    verdict.expected_cached_tokens = candidate.expected_cached_tokens;
    for (const scheduling::PluginScore& score : decision.scores) {
      if (!std::isnan(score.scores[i])) verdict.scores.emplace_back(score.plugin, score.scores[i]);
    }
    if (!std::isnan(decision.totals[i])) verdict.total = decision.totals[i];
    verdict.filtered_by = decision.filtered_by[i];
    record->endpoints.push_back(std::move(verdict));
  }
  if (!decision.picked.empty()) {
    record->chosen = request.candidates[decision.picked.front()].endpoint->name();
  }
  return record;
}

}  // namespace

Director::Director(DirectorDeps deps, DirectorOptions options)
    : options_(options), state_(std::make_shared<DirectorState>(deps, options)) {
  Registry& registry = deps.metrics;
  const Counter admissions = registry.AddCounter(
      "llm_d_epp_kv_cache_index_admissions_total",
      "(Block, endpoint, tier) residencies added to the index through KV events.");
  const Counter evictions =
      registry.AddCounter("llm_d_epp_kv_cache_index_evictions_total",
                          "(Block, endpoint, tier) residencies that left the index.");
  const Gauge blocks =
      registry.AddGauge("warmpath_index_blocks", "Distinct KV blocks in the index.");
  const Gauge bytes = registry.AddGauge("warmpath_index_bytes", "Accounted memory of the index.");
  registry.OnRender([weak = std::weak_ptr(state_), admissions, evictions, blocks, bytes] {
    const auto state = weak.lock();
    if (state == nullptr) return;
    // Read under the lock: of two renderings at once the second must not see older counts.
    MutexLock lock(state->due_mutex);
    const index::IndexStats stats = state->deps.index.stats();
    const uint64_t evicted = stats.evicted_removed + stats.evicted_cleared + stats.evicted_budget;
    admissions.Add(static_cast<double>(stats.admissions - state->admissions_shown));
    evictions.Add(static_cast<double>(evicted - state->evictions_shown));
    state->admissions_shown = stats.admissions;
    state->evictions_shown = evicted;
    blocks.Set(static_cast<double>(stats.blocks));
    bytes.Set(static_cast<double>(stats.bytes));
  });
}

Director::~Director() = default;

void Director::SetEncoder(std::string model, std::shared_ptr<const prompt::Encoder> encoder) {
  WriterLock lock(state_->encoder_mutex);
  state_->encoder = std::move(encoder);
  state_->encoder_model = std::move(model);
  state_->encoder_note.clear();
}

void Director::SetEncoderAbsent(std::string reason) {
  WriterLock lock(state_->encoder_mutex);
  state_->encoder = nullptr;
  state_->encoder_note = std::move(reason);
}

std::shared_ptr<const prompt::Encoder> Director::encoder() const {
  ReaderLock lock(state_->encoder_mutex);
  return state_->encoder;
}

std::string Director::encoder_note() const {
  ReaderLock lock(state_->encoder_mutex);
  return state_->encoder_note;
}

Result<Prepared> Director::PrepareByLoad(std::string request_id, prompt::Api api,
                                         std::string_view body, std::string note,
                                         RequestAttributes attributes) const {
  Prepared prepared;
  prepared.attributes = std::move(attributes);
  prepared.body_bytes = body.size();
  prepared.started = state_->deps.clock.Now();
  prepared.request_id = std::move(request_id);
  WP_TRY(prepared.view, prompt::ReadRequest(api, body));
  prepared.tokens_note = std::move(note);
  return prepared;
}

Result<Prepared> Director::Prepare(std::string request_id, prompt::Api api, std::string_view body,
                                   RequestAttributes attributes) const {
  WP_TRY(Prepared prepared,
         PrepareByLoad(std::move(request_id), api, body, "", std::move(attributes)));
  std::shared_ptr<const prompt::Encoder> encoder;
  std::string encoder_model;
  {
    ReaderLock lock(state_->encoder_mutex);
    encoder = state_->encoder;
    encoder_model = state_->encoder_model;
    if (encoder == nullptr) prepared.tokens_note = state_->encoder_note;
  }
  std::string_view reason;
  if (!HasPrompt(api)) {
    prepared.tokens_note = "this API is routed by load";
    reason = "api";
  } else if (encoder == nullptr) {
    reason = "no_tokenizer";
  } else if (!SharesTokenizer(*state_->deps.fleet.snapshot(), prepared.view.model, encoder_model)) {
    prepared.tokens_note = fmt::format("the tokenizer loaded is that of {}", encoder_model);
    reason = "other_model";
  } else if (auto prompts = encoder->Encode(api, body); prompts) {
    prepared.prompts = std::move(*prompts);
    prepared.tokens_known = true;
    for (const prompt::EncodedPrompt& prompt : prepared.prompts)
      prepared.prompt_tokens += prompt.ids.size();
  } else {
    // The engine answers for itself: it refuses what it refuses, and serves what we cannot
    // tokenize.
    prepared.tokens_note = prompts.error().message;
    reason = prompts.error().code == Code::kUnsupported ? "unsupported_prompt" : "refused_prompt";
  }
  if (!prepared.tokens_known) state_->metrics.CountInexact(std::string(reason));
  prepared.prepare_time = state_->deps.clock.Now() - prepared.started;
  state_->metrics.prepare_seconds.Observe(ToSeconds(prepared.prepare_time));
  return prepared;
}

Result<Outcome> Director::Decide(Prepared& prepared,
                                 const std::vector<fleet::EndpointId>& exclude) {
  DirectorState& state = *state_;
  const DirectorDeps& deps = state.deps;
  const TimePoint begin = deps.clock.Now();
  const std::shared_ptr<const fleet::Snapshot> snapshot = deps.fleet.snapshot();
  // A retry that finds nobody leaves the request with the answer of its first endpoint.
  const bool retry = !exclude.empty();
  auto endpoints = EligibleEndpoints(*snapshot, prepared.view.model, exclude);
  if (!endpoints) {
    if (retry) return tl::unexpected(endpoints.error());
    state.metrics.CountError(prepared.view.model,
                             std::to_string(HttpStatusOf(endpoints.error().code)));
    return tl::unexpected(endpoints.error());
  }

  MatchedRequest matched =
      Match(prepared, *endpoints, deps.index, deps.events, deps.fleet.inflight());
  scheduling::Request& request = matched.request;
  const TimePoint looked_up = deps.clock.Now();
  if (prepared.decisions++ == 0 && prepared.tokens_known) {
    const double seconds = ToSeconds(looked_up - begin);
    state.metrics.lookups.Add(static_cast<double>(prepared.prompts.size()));
    state.metrics.lookup_hits.Add(matched.best_usable_blocks);
    state.metrics.lookup_latency_seconds.Observe(seconds);
    MutexLock lock(state.lookup_mutex);
    state.lookup.lookups += prepared.prompts.size();
    state.lookup.hits += matched.best_usable_blocks;
    ++state.lookup.latency_count;
    state.lookup.latency_sum_s += seconds;
  }

  const scheduling::Decision decision = deps.scheduler.Schedule(request);
  state.metrics.scheduler_seconds.Observe(ToSeconds(deps.clock.Now() - looked_up));
  const std::string target_model =
      !prepared.view.model.empty() || request.candidates.front().endpoint->models.empty()
          ? prepared.view.model
          : request.candidates.front().endpoint->models.front().id;
  if (LogEnabled(LogLevel::kDebug)) {
    LogPodScores(deps.scheduler.prefix_scorer(), request, target_model,
                 PodScores(*snapshot, request));
  }

  std::shared_ptr<DecisionRecord> record = MakeRecord(prepared, request, decision, deps.scheduler);
  record->at = deps.clock.WallNow();
  record->attempts = prepared.decisions;
  record->decision_ms = ToSeconds(deps.clock.Now() - begin + prepared.prepare_time) * 1e3;
  if (decision.picked.empty()) {
    if (!retry) {
      record->status = HttpStatusOf(Code::kOutOfBounds);
      state.records.Add(std::move(record));
      state.metrics.CountError(target_model, "429");
    }
    return Fail(Code::kOutOfBounds,
                "Every engine was filtered out for this request; try again later.");
  }

  const size_t pick = decision.picked.front();
  const scheduling::Candidate& chosen = request.candidates[pick];
  auto outcome = std::make_unique<OutcomeState>();
  outcome->director = state_;
  outcome->endpoint = chosen.endpoint;
  outcome->rank = chosen.rank;
  outcome->model = target_model;
  outcome->stream = prepared.view.stream;
  outcome->tokens_known = prepared.tokens_known;
  outcome->prompt_tokens = prepared.prompt_tokens;
  outcome->predicted_cached = chosen.expected_cached_tokens;
  outcome->load_at_decision = chosen.inflight;
  outcome->started = prepared.started;
  outcome->decided = deps.clock.Now();
  outcome->record = record;
  outcome->ticket = deps.fleet.inflight().Book(
      chosen.endpoint->id, chosen.rank,
      static_cast<int64_t>(prepared.prompt_tokens - chosen.expected_cached_tokens),
      static_cast<int64_t>(prepared.prompt_tokens));
  if (const auto& keys = matched.candidate_keys[pick]; keys != nullptr && deps.events != nullptr) {
    for (const auto& chain : *keys) {
      if (!chain.empty()) {
        outcome->holds.push_back(deps.index.Hold({chosen.endpoint->id, chosen.rank}, chain));
      }
    }
  }
  state.records.Add(std::move(record));
  deps.fleet.Touch(chosen.endpoint->id);
  const ModelMetrics& metrics = state.metrics.ForModel(target_model);
  if (prepared.decisions == 1) metrics.requests.Add();
  metrics.running.Add(1);
  return Outcome(std::move(outcome));
}

Result<DecisionRecord> Director::Explain(prompt::Api api, std::string_view body) const {
  WP_TRY(const Prepared prepared, Prepare("", api, body));
  const DirectorDeps& deps = state_->deps;
  const TimePoint begin = deps.clock.Now();
  WP_TRY(const auto endpoints, EligibleEndpoints(*deps.fleet.snapshot(), prepared.view.model, {}));
  MatchedRequest matched =
      Match(prepared, endpoints, deps.index, deps.events, deps.fleet.inflight());
  const auto record =
      MakeRecord(prepared, matched.request, deps.scheduler.DryRun(matched.request), deps.scheduler);
  record->decision_ms = ToSeconds(deps.clock.Now() - begin + prepared.prepare_time) * 1e3;
  return *record;
}

Result<std::vector<TokenizedView>> Director::Tokenize(prompt::Api api,
                                                      std::string_view body) const {
  const auto encoder = this->encoder();
  if (encoder == nullptr) return Fail(Code::kUnavailable, encoder_note());
  WP_TRY(const prompt::RequestView view, prompt::ReadRequest(api, body));
  WP_TRY(auto prompts, encoder->Encode(api, body));
  uint32_t block_size = 0;
  std::string adapter;
  const auto fleet = state_->deps.fleet.snapshot();
  for (const EndpointPtr& endpoint : fleet->endpoints) {
    if (block_size == 0) block_size = BlockSizeOf(*endpoint, state_->deps.events);
    const fleet::ServedModel* served = endpoint->FindModel(view.model);
    if (served != nullptr && served->is_adapter()) adapter = served->id;
  }
  if (block_size == 0) block_size = kDefaultBlockSize;
  const kv::BlockKey root = kv::RootKey(block_size, adapter, view.cache_salt);
  std::vector<TokenizedView> out;
  for (prompt::EncodedPrompt& prompt : prompts) {
    std::vector<kv::BlockKey> keys = kv::PrefixKeys(root, prompt.ids, block_size);
    out.push_back({std::move(prompt.text), std::move(prompt.ids), std::move(keys)});
  }
  return out;
}

std::optional<DecisionRecord> Director::FindRecord(const std::string& request_id) const {
  return state_->records.Find(request_id);
}

std::vector<DecisionRecord> Director::NewestRecords(size_t count) const {
  return state_->records.Newest(count);
}

PredictionStats Director::Predictions(fleet::EndpointId endpoint) const {
  MutexLock lock(state_->prediction_mutex);
  const auto it = state_->predictions.find(endpoint);
  return it == state_->predictions.end() ? PredictionStats{} : it->second;
}

void Director::Tick() {
  const TimePoint now = state_->deps.clock.Now();
  std::vector<index::HoldId> due;
  bool beat = false;
  {
    MutexLock lock(state_->due_mutex);
    while (!state_->due_holds.empty() && state_->due_holds.front().at <= now) {
      due.push_back(state_->due_holds.front().hold);
      state_->due_holds.pop_front();
    }
    if (options_.beat_interval > Duration(0) && now - state_->last_beat >= options_.beat_interval) {
      state_->last_beat = now;
      beat = true;
    }
  }
  for (const index::HoldId hold : due) state_->deps.index.Release(hold);
  if (beat) LogMetricsBeat(state_->deps.index.stats(), lookup_stats());
}

Director::LookupStats Director::lookup_stats() const {
  MutexLock lock(state_->lookup_mutex);
  return state_->lookup;
}

}  // namespace warmpath::routing
