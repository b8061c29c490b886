// Director: from a Prepared to an Outcome.
#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>

#include "base/log.h"
#include "routing/beat.h"
#include "routing/director.h"
#include "routing/matching.h"
#include "routing/state.h"

namespace warmpath::routing {
namespace {

using EndpointPtr = std::shared_ptr<const fleet::Endpoint>;

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

// Of bodiless requests: nobody knows what they cost.
EndpointPtr LeastLoaded(const std::vector<EndpointPtr>& endpoints,
                        const fleet::InflightLedger& inflight) {
  thread_local std::minstd_rand random{std::random_device{}()};
  EndpointPtr best;
  std::tuple<int64_t, double, uint32_t> best_load;
  for (const EndpointPtr& endpoint : endpoints) {
    const std::tuple<int64_t, double, uint32_t> load = {
        inflight.Load(endpoint->id).requests, endpoint->load.waiting + endpoint->load.running,
        static_cast<uint32_t>(random())};
    if (best != nullptr && load >= best_load) continue;
    best = endpoint;
    best_load = load;
  }
  return best;
}

// Output tokens to count as load, as llm-d's inflight-load-producer estimates them.
uint64_t EstimatedOutput(const DirectorOptions& options, uint64_t prompt_tokens,
                         std::optional<uint64_t> limit) {
  if (!options.add_estimated_output_tokens) return 0;
  constexpr double kMost = 0x1p40;  // sums of such loads stay far from overflowing
  auto tokens = static_cast<uint64_t>(
      std::llround(std::min(static_cast<double>(prompt_tokens) * options.output_ratio, kMost)));
  if (limit) tokens = std::min(tokens, *limit);
  if (options.max_estimated_output_tokens > 0)
    tokens = std::min(tokens, options.max_estimated_output_tokens);
  return tokens;
}

uint64_t EstimatedPromptTokens(const Prepared& prepared) {
  uint64_t tokens = 0;
  for (const auto& prompt : prepared.estimated) tokens += prompt.size();
  return tokens;
}

// What the engine is asked for, by name: an engine's default model has one too.
std::string ResolvedModel(const Prepared& prepared, const std::vector<EndpointPtr>& endpoints) {
  if (!prepared.target_model.empty() || endpoints.empty() || endpoints.front()->models.empty())
    return prepared.target_model;
  return endpoints.front()->models.front().id;
}

RequestLabels LabelsOf(const Prepared& prepared, const std::string& resolved) {
  return {prepared.view.model.empty() ? std::string_view(resolved) : prepared.view.model, resolved,
          prepared.fairness_id, prepared.priority};
}

Choice MakeChoice(const MatchedRequest& matched, size_t index) {
  const scheduling::Candidate& candidate = matched.request.candidates[index];
  return {candidate.endpoint, candidate.rank, candidate.expected_cached_tokens, candidate.inflight,
          matched.candidate_keys[index]};
}

std::shared_ptr<DecisionRecord> BodilessRecord(const Prepared& prepared,
                                               const fleet::Endpoint& endpoint) {
  auto record = std::make_shared<DecisionRecord>();
  record->request_id = prepared.request_id;
  record->tokens_note = prepared.tokens_note;
  record->priority = prepared.priority;
  record->chosen = endpoint.name();
  return record;
}

}  // namespace

Result<std::vector<EndpointPtr>> DirectorState::Eligible(
    const fleet::Snapshot& snapshot, const Prepared& prepared,
    const std::vector<fleet::EndpointId>& exclude) const {
  const auto& subset = prepared.attributes.subset;
  auto endpoints = EligibleEndpoints(snapshot, prepared.target_model, exclude, subset);
  if (endpoints || !options.any_model || endpoints.error().code != Code::kNotFound)
    return endpoints;
  return EligibleEndpoints(snapshot, "", exclude, subset);
}

std::shared_ptr<const FlowingEvents> DirectorState::CurrentFlowing() {
  {
    MutexLock lock(flowing_mutex);
    if (flowing != nullptr) return flowing;
  }
  RefreshFlowing();
  MutexLock lock(flowing_mutex);
  return flowing;
}

void DirectorState::RefreshFlowing() {
  auto now = std::make_shared<const FlowingEvents>(
      deps.events == nullptr ? FlowingEvents{} : EndpointsWithEvents(deps.events->status()));
  MutexLock lock(flowing_mutex);
  flowing = std::move(now);
  flowing_at = deps.clock.Now();
}

void Director::CountLookup(const Prepared& prepared, const MatchedRequest& matched, Duration took) {
  const double seconds = ToSeconds(took);
  state_->metrics.lookups.Add(static_cast<double>(prepared.prompts.size()));
  state_->metrics.lookup_hits.Add(matched.best_usable_blocks);
  state_->metrics.lookup_best.Add(matched.best_resident_blocks);
  state_->metrics.lookup_latency_seconds.Observe(seconds);
  MutexLock lock(state_->lookup_mutex);
  state_->lookup.lookups += prepared.prompts.size();
  state_->lookup.hits += matched.best_usable_blocks;
  ++state_->lookup.latency_count;
  state_->lookup.latency_sum_s += seconds;
}

Result<Outcome> Director::DecideBodiless(Prepared& prepared,
                                         const std::vector<fleet::EndpointId>& exclude) {
  DirectorState& state = *state_;
  const bool first = prepared.decisions++ == 0;
  const auto endpoints = state.Eligible(*state.deps.fleet.snapshot(), prepared, exclude);
  const RequestMetrics& metrics = state.metrics.For(LabelsOf(prepared, ""));
  if (first) metrics.requests.Add();
  if (!endpoints) {
    if (first) state.metrics.CountError(metrics, HttpStatusOf(endpoints.error().code));
    return tl::unexpected(endpoints.error());
  }
  const EndpointPtr endpoint = LeastLoaded(*endpoints, state.deps.fleet.inflight());
  auto outcome = std::make_unique<OutcomeState>();
  outcome->choices.push_back({endpoint, 0, 0, state.deps.fleet.inflight().Load(endpoint->id), {}});
  outcome->metrics = &metrics;
  outcome->record = BodilessRecord(prepared, *endpoint);
  return Book(prepared, std::move(outcome));
}

Result<Outcome> Director::Decide(Prepared& prepared,
                                 const std::vector<fleet::EndpointId>& exclude) {
  if (prepared.bodiless) return DecideBodiless(prepared, exclude);
  DirectorState& state = *state_;
  const DirectorDeps& deps = state.deps;
  const TimePoint begin = deps.clock.Now();
  const bool first = prepared.decisions++ == 0;
  const std::shared_ptr<const fleet::Snapshot> snapshot = deps.fleet.snapshot();
  // A retry that finds nobody leaves the request with the answer of its first endpoint.
  const bool retry = !exclude.empty();
  const auto endpoints = state.Eligible(*snapshot, prepared, exclude);
  if (!endpoints) {
    const Code code = endpoints.error().code;
    // Names that no endpoint serves never get a series of their own.
    const RequestMetrics& metrics = state.metrics.For(
        code == Code::kNotFound
            ? RequestLabels{"other", "other", prepared.fairness_id, prepared.priority}
            : LabelsOf(prepared, prepared.target_model));
    if (first) metrics.requests.Add();
    if (!retry) state.metrics.CountError(metrics, HttpStatusOf(code));
    return tl::unexpected(endpoints.error());
  }
  const std::string resolved = ResolvedModel(prepared, *endpoints);
  const RequestMetrics& metrics = state.metrics.For(LabelsOf(prepared, resolved));
  if (first) {
    metrics.requests.Add();
    metrics.request_bytes.Observe(static_cast<double>(prepared.body_bytes));
    if (!prepared.rewrite.empty()) state.metrics.CountRewrite(metrics, prepared.rewrite);
  }

  MatchedRequest matched =
      Match(prepared, *endpoints, deps.index, deps.events, *state.CurrentFlowing(),
            deps.fleet.inflight(), deps.scheduler.wants_estimated_tokens());
  scheduling::Request& request = matched.request;
  const TimePoint looked_up = deps.clock.Now();
  if (first && prepared.tokens_known) CountLookup(prepared, matched, looked_up - begin);
  if (first && request.priority < 0 && deps.scheduler.Saturation(request) >= 1) {
    state.metrics.CountError(metrics, 429);
    return Fail(Code::kOutOfBounds, std::string(kShedMessage));
  }

  scheduling::Decision decision = deps.scheduler.Schedule(request);
  const TimePoint scheduled = deps.clock.Now();
  state.metrics.scheduler_seconds.Observe(ToSeconds(scheduled - looked_up));
  if (LogEnabled(LogLevel::kDebug)) {
    LogPodScores(deps.scheduler.prefix_scorer(), request, resolved, PodScores(*snapshot, request));
  }

  std::shared_ptr<DecisionRecord> record = MakeRecord(prepared, request, decision, state.weights);
  record->decision_ms = ToSeconds(scheduled - begin + prepared.prepare_time) * 1e3;
  const bool none = decision.picked.empty();
  state.metrics.CountAttempt(
      metrics, none ? nullptr : request.candidates[decision.picked.front()].endpoint.get());
  if (none) {
    if (!retry) {
      record->at = deps.clock.WallNow();
      record->attempts = prepared.decisions;
      record->status = HttpStatusOf(Code::kOutOfBounds);
      state.records.Add(std::move(record));
      state.metrics.CountError(metrics, 429);
    }
    return Fail(Code::kOutOfBounds,
                "Every engine was filtered out for this request; try again later.");
  }

  auto outcome = std::make_unique<OutcomeState>();
  for (const size_t pick : decision.picked) outcome->choices.push_back(MakeChoice(matched, pick));
  for (size_t i = 0; i < request.candidates.size(); ++i) {
    if (!std::isnan(decision.totals[i]))
      outcome->totals.emplace_back(request.candidates[i].endpoint, decision.totals[i]);
  }
  outcome->effects = std::move(decision.effects);
  outcome->metrics = &metrics;
  outcome->record = std::move(record);
  return Book(prepared, std::move(outcome));
}

Outcome Director::Book(Prepared& prepared, std::unique_ptr<OutcomeState> outcome) {
  DirectorState& state = *state_;
  const DirectorDeps& deps = state.deps;
  const Choice& chosen = outcome->choices.front();
  outcome->director = state_;
  outcome->endpoint = chosen.endpoint;
  outcome->rank = chosen.rank;
  outcome->target_model = prepared.target_model;
  outcome->stream = prepared.view.stream;
  outcome->tokens_known = prepared.tokens_known;
  outcome->prompt_tokens = prepared.prompt_tokens;
  outcome->predicted_cached = chosen.expected_cached;
  outcome->load_at_decision = chosen.load;
  outcome->started = prepared.started;
  outcome->decided = deps.clock.Now();
  for (const Choice& choice : outcome->choices)
    outcome->destinations.push_back(choice.endpoint->address());
  if (!outcome->effects.destination.empty())
    outcome->destinations.front() = outcome->effects.destination;
  const uint64_t prompt_tokens =
      prepared.tokens_known ? prepared.prompt_tokens : EstimatedPromptTokens(prepared);
  outcome->ticket = deps.fleet.inflight().Book(
      chosen.endpoint->id, chosen.rank,
      static_cast<int64_t>(prompt_tokens - chosen.expected_cached),
      static_cast<int64_t>(prompt_tokens),
      static_cast<int64_t>(EstimatedOutput(options_, prompt_tokens, prepared.view.max_tokens)));
  outcome->HoldBlocks(chosen);
  // Only fallbacks need theirs again.
  if (outcome->choices.size() == 1) outcome->choices.front().keys.reset();
  outcome->record->at = deps.clock.WallNow();
  outcome->record->attempts = prepared.decisions;
  state.records.Add(outcome->record);
  deps.fleet.Touch(chosen.endpoint->id);
  outcome->metrics->running.Add(1);
  if (prepared.decisions == 1) {
    state.metrics.request_processing_seconds.Observe(
        ToSeconds(outcome->decided - outcome->started));
  }
  return Outcome(std::move(outcome));
}

void OutcomeState::HoldBlocks(const Choice& choice) {
  if (choice.keys == nullptr || director->deps.events == nullptr) return;
  if (!director->options.speculative_blocks) return;
  for (const auto& chain : *choice.keys) {
    if (!chain.empty())
      holds.push_back(director->deps.index.Hold({choice.endpoint->id, choice.rank}, chain));
  }
}

}  // namespace warmpath::routing
