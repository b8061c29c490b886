// Director: from a Prepared to an Outcome.
#include <algorithm>
#include <cmath>
#include <random>
#include <tuple>
#include <utility>

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

// Of bodiless requests: nobody knows what they cost. Its place in the view.
uint32_t LeastLoaded(const View& view, const Pool& pool) {
  thread_local std::minstd_rand random{std::random_device{}()};
  uint32_t best = 0;
  std::tuple<int64_t, double, uint32_t> best_load;
  bool first = true;
  for (const Pool::Member& member : pool.members) {
    const View::Entry& entry = view.entries()[member.place];
    const std::tuple<int64_t, double, uint32_t> load = {
        entry.inflight.Read().requests, entry.endpoint->load.waiting + entry.endpoint->load.running,
        static_cast<uint32_t>(random())};
    if (!std::exchange(first, false) && load >= best_load) continue;
    best = member.place;
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
const std::string& ResolvedModel(const Prepared& prepared, const View& view, const Pool& pool) {
  const auto& models = view.entries()[pool.members.front().place].endpoint->models;
  return !prepared.target_model.empty() || models.empty() ? prepared.target_model
                                                          : models.front().id;
}

RequestLabels LabelsOf(const Prepared& prepared, const std::string& resolved) {
  return {prepared.view.model.empty() ? std::string_view(resolved) : prepared.view.model, resolved,
          prepared.fairness_id, prepared.priority};
}

Choice MakeChoice(const MatchedRequest& matched, const View& view, const Pool& pool, size_t index) {
  const scheduling::Candidate& candidate = matched.request.candidates[index];
  const uint32_t place = pool.members[index].place;
  return {view.snapshot().endpoints[place],
          view.entries()[place].address,
          candidate.rank,
          candidate.expected_cached_tokens,
          candidate.inflight,
          matched.KeysOf(index)};
}

std::shared_ptr<Record> BodilessRecord(const Prepared& prepared, const View& view,
                                       uint32_t chosen) {
  auto record = std::make_shared<Record>();
  record->request_id = prepared.request_id;
  record->tokens_note = prepared.tokens_note;
  record->priority = prepared.priority;
  record->roster = view.roster();
  record->chosen_place = chosen;
  return record;
}

// Of one Decide; a thread's is used again.
struct DecideMemory {
  MatchedRequest matched;
  scheduling::Decision decision;
  std::shared_ptr<Record> spare;  // empty; null when there is none
};
thread_local DecideMemory memory;

}  // namespace

std::shared_ptr<const View> DirectorState::CurrentView(TimePoint now) {
  const std::shared_ptr<const fleet::Snapshot> snapshot = deps.fleet.snapshot();
  std::shared_ptr<const View> before;
  std::shared_ptr<const FlowingEvents> flows;
  for (;;) {
    {
      MutexLock lock(view_mutex);
      if (view != nullptr && view->Current(snapshot, flowing, now)) return view;
      before = view;
      flows = flowing;
    }
    if (flows != nullptr) break;
    RefreshFlowing();
  }
  auto made =
      std::make_shared<const View>(snapshot, std::move(flows), view_sources(), now, before.get());
  MutexLock lock(view_mutex);
  view = made;
  return made;
}

void DirectorState::RefreshFlowing() {
  auto now = std::make_shared<const FlowingEvents>(deps.events == nullptr ? FlowingEvents{}
                                                                          : deps.events->flowing());
  MutexLock lock(view_mutex);
  if (flowing == nullptr || *flowing != *now) flowing = std::move(now);
  flowing_at = deps.clock.Now();
}

void Director::CountLookup(const Prepared& prepared, const MatchedRequest& matched, Duration took) {
  DirectorState& state = *state_;
  state.metrics.lookups.Add(static_cast<double>(prepared.prompts.size()));
  state.metrics.lookup_hits.Add(matched.best_usable_blocks);
  state.metrics.lookup_best.Add(matched.best_resident_blocks);
  state.metrics.lookup_latency_seconds.Observe(ToSeconds(took));
  constexpr auto kRelaxed = std::memory_order_relaxed;
  state.lookups.fetch_add(prepared.prompts.size(), kRelaxed);
  state.lookup_hits.fetch_add(matched.best_usable_blocks, kRelaxed);
  state.lookup_count.fetch_add(1, kRelaxed);
  state.lookup_nanos.fetch_add(took.count(), kRelaxed);
}

Result<Outcome> Director::DecideBodiless(Prepared& prepared,
                                         const std::vector<fleet::EndpointId>& exclude) {
  DirectorState& state = *state_;
  const TimePoint now = state.deps.clock.Now();
  const bool first = prepared.decisions++ == 0;
  const std::shared_ptr<const View> view = state.CurrentView(now);
  const auto pool =
      view->PoolOf(prepared.target_model, options_.any_model, exclude, prepared.attributes.subset);
  const RequestMetrics& metrics = state.metrics.For(LabelsOf(prepared, ""));
  if (first) metrics.requests.Add();
  if (!pool) {
    if (first) state.metrics.CountError(metrics, HttpStatusOf(pool.error().code));
    return tl::unexpected(pool.error());
  }
  const uint32_t chosen = LeastLoaded(*view, **pool);
  const View::Entry& entry = view->entries()[chosen];
  auto outcome = NewOutcomeState();
  outcome->choices.push_back(
      {view->snapshot().endpoints[chosen], entry.address, 0, 0, entry.inflight.Read(), nullptr});
  outcome->metrics = &metrics;
  outcome->decided = now;
  outcome->record = BodilessRecord(prepared, *view, chosen);
  return Book(prepared, std::move(outcome));
}

Result<Outcome> Director::Decide(Prepared& prepared,
                                 const std::vector<fleet::EndpointId>& exclude) {
  if (prepared.bodiless) return DecideBodiless(prepared, exclude);
  DirectorState& state = *state_;
  const DirectorDeps& deps = state.deps;
  const TimePoint begin = deps.clock.Now();
  const bool first = prepared.decisions++ == 0;
  const std::shared_ptr<const View> view = state.CurrentView(begin);
  // A retry that finds nobody leaves the request with the answer of its first endpoint.
  const bool retry = !exclude.empty();
  const auto found =
      view->PoolOf(prepared.target_model, options_.any_model, exclude, prepared.attributes.subset);
  if (!found) {
    const Code code = found.error().code;
    // Names that no endpoint serves never get a series of their own.
    const RequestMetrics& metrics = state.metrics.For(
        code == Code::kNotFound
            ? RequestLabels{"other", "other", prepared.fairness_id, prepared.priority}
            : LabelsOf(prepared, prepared.target_model));
    if (first) metrics.requests.Add();
    if (!retry) state.metrics.CountError(metrics, HttpStatusOf(code));
    return tl::unexpected(found.error());
  }
  const Pool& pool = **found;
  const std::string& resolved = ResolvedModel(prepared, *view, pool);
  const RequestMetrics& metrics = state.metrics.For(LabelsOf(prepared, resolved));
  if (first) {
    metrics.requests.Add();
    metrics.request_bytes.Observe(static_cast<double>(prepared.body_bytes));
    if (!prepared.rewrite.empty()) state.metrics.CountRewrite(metrics, prepared.rewrite);
  }

  MatchedRequest& matched = memory.matched;
  Match(prepared, *view, pool, state.view_sources(), deps.scheduler.wants_estimated_tokens(),
        matched);
  scheduling::Request& request = matched.request;
  const TimePoint looked_up = deps.clock.Now();
  if (first && prepared.tokens_known) CountLookup(prepared, matched, looked_up - begin);
  if (first && request.priority < 0 && deps.scheduler.Saturation(request) >= 1) {
    state.metrics.CountError(metrics, 429);
    return Fail(Code::kOutOfBounds, std::string(kShedMessage));
  }

  scheduling::Decision& decision = memory.decision;
  deps.scheduler.Schedule(request, decision);
  const TimePoint scheduled = deps.clock.Now();
  state.metrics.scheduler_seconds.Observe(ToSeconds(scheduled - looked_up));
  if (LogEnabled(LogLevel::kDebug)) {
    LogPodScores(deps.scheduler.prefix_scorer(), request, resolved,
                 PodScores(view->snapshot(), request));
  }

  std::shared_ptr<Record> record =
      MakeRecord(prepared, *view, pool, request, decision, state.names, std::move(memory.spare));
  record->decision_ms = ToSeconds(scheduled - begin + prepared.prepare_time) * 1e3;
  const bool none = decision.picked.empty();
  state.metrics.CountAttempt(metrics,
                             none ? nullptr : request.candidates[decision.picked.front()].endpoint);
  if (none) {
    if (!retry) {
      record->at = deps.clock.WallNow();
      {
        MutexLock lock(record->mutex);
        record->attempts = prepared.decisions;
        record->status = HttpStatusOf(Code::kOutOfBounds);
      }
      memory.spare = state.records.Add(std::move(record));
      state.metrics.CountError(metrics, 429);
    }
    return Fail(Code::kOutOfBounds,
                "Every engine was filtered out for this request; try again later.");
  }

  auto outcome = NewOutcomeState();
  outcome->choices.reserve(decision.picked.size());
  for (const size_t pick : decision.picked)
    outcome->choices.push_back(MakeChoice(matched, *view, pool, pick));
  // What the thread keeps is memory, not keys.
  matched.spaces.clear();
  outcome->snapshot = view->shared_snapshot();
  outcome->effects = std::move(decision.effects);
  outcome->metrics = &metrics;
  outcome->decided = scheduled;
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
  outcome->max_tokens = prepared.view.max_tokens;
  outcome->prompt_tokens = prepared.prompt_tokens;
  outcome->predicted_cached = chosen.expected_cached;
  outcome->load_at_decision = chosen.load;
  outcome->started = prepared.started;
  outcome->destinations.reserve(outcome->choices.size());
  for (const Choice& choice : outcome->choices) outcome->destinations.push_back(choice.address);
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
  if (prepared.decisions > 1) {
    MutexLock lock(outcome->record->mutex);
    outcome->record->attempts = prepared.decisions;
  }
  if (auto spare = state.records.Add(outcome->record)) memory.spare = std::move(spare);
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
