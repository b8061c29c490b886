// Outcome: what a response teaches, and the release of everything its request had booked.
#include <algorithm>
#include <cmath>

#include "routing/state.h"

namespace warmpath::routing {
namespace {

double Milliseconds(Duration duration) {
  return ToSeconds(duration) * 1e3;
}

// Of a stream's chunks, those whose own cost is measured.
constexpr int kChunksPerSample = 16;

constexpr size_t kMaxSpareStates = 64;
// Cleared; of outcomes that ended on this thread.
thread_local std::vector<std::unique_ptr<OutcomeState>> spare_states;

// As new, but for the memory of its lists, unless that is much.
void Clear(OutcomeState& state) {
  constexpr size_t kKept = 8;
  OutcomeState empty;
  const auto keep = [](auto& list, auto& kept) {
    if (list.capacity() > kKept) return;
    list.clear();
    kept = std::move(list);
  };
  keep(state.choices, empty.choices);
  keep(state.destinations, empty.destinations);
  keep(state.holds, empty.holds);
  state = std::move(empty);
}

void FirstTokenAt(OutcomeState& s, TimePoint now) {
  s.first_token_seen = true;
  // An error's body is nothing prefill has led to.
  if (s.status >= 300) return;
  s.ticket.PrefillDone();
  s.first_byte = s.last_chunk = now;
  (s.stream ? s.metrics->ttft_seconds_streaming : s.metrics->ttft_seconds_whole)
      .Observe(ToSeconds(now - s.started));
  // Only a stream's first byte marks the end of prefill; a whole answer's comes after its decode.
  if (s.stream && s.tokens_known) {
    s.director->deps.scheduler.Observe({s.endpoint->id, s.prompt_tokens - s.predicted_cached,
                                        s.load_at_decision, now - s.decided});
  }
  MutexLock lock(s.record->mutex);
  s.record->first_byte_ms = Milliseconds(now - s.started);
}

}  // namespace

void OutcomeState::ObserveDurations(TimePoint end) const {
  const double seconds = ToSeconds(end - started);
  metrics->duration_seconds.Observe(seconds);
  if (output_tokens == 0) return;
  const auto tokens = static_cast<double>(output_tokens);
  metrics->ntpot_seconds.Observe(seconds / tokens);
  if (stream && output_tokens > 1 && first_token_seen)
    metrics->tpot_seconds.Observe(ToSeconds(end - first_byte) / (tokens - 1));
}

std::unique_ptr<OutcomeState> NewOutcomeState() {
  if (spare_states.empty()) return std::make_unique<OutcomeState>();
  auto state = std::move(spare_states.back());
  spare_states.pop_back();
  return state;
}

Outcome::Outcome(std::unique_ptr<OutcomeState> state) : state_(std::move(state)) {}
Outcome::Outcome(Outcome&&) noexcept = default;
Outcome& Outcome::operator=(Outcome&& other) noexcept {
  if (this != &other) {
    Drop();
    state_ = std::move(other.state_);
  }
  return *this;
}
Outcome::~Outcome() {
  Drop();
}

void Outcome::Drop() {
  if (state_ == nullptr) return;
  Abort();
  if (spare_states.size() < kMaxSpareStates) {
    Clear(*state_);
    spare_states.push_back(std::move(state_));
  }
  state_.reset();
}

const fleet::Endpoint& Outcome::endpoint() const {
  return *state_->endpoint;
}
uint16_t Outcome::rank() const {
  return state_->rank;
}
bool Outcome::pin_rank() const {
  return state_->endpoint->spec.data_parallel > 1;
}
uint64_t Outcome::predicted_cached_tokens() const {
  return state_->predicted_cached;
}

const std::vector<std::string>& Outcome::destinations() const {
  return state_->destinations;
}
const scheduling::PickEffects& Outcome::effects() const {
  return state_->effects;
}
const std::string& Outcome::target_model() const {
  return state_->target_model;
}
std::vector<std::pair<std::string, double>> Outcome::scores() const {
  std::vector<std::pair<std::string, double>> scores;
  if (state_->snapshot == nullptr) return scores;
  scores.reserve(state_->record->verdicts.size());
  for (const Record::Verdict& verdict : state_->record->verdicts) {
    if (!std::isnan(verdict.total))
      scores.emplace_back(state_->snapshot->endpoints[verdict.place]->address(), verdict.total);
  }
  return scores;
}

void Outcome::ResponseHead(int status, bool streaming) {
  OutcomeState& s = *state_;
  if (s.ended) return;
  s.status = status;
  s.stream = streaming;
  s.snapshot.reset();
}

void Outcome::Served(std::string_view destination) {
  OutcomeState& s = *state_;
  if (s.ended || s.first_token_seen || destination == s.destinations.front() ||
      destination == s.endpoint->address()) {
    return;
  }
  DirectorState& director = *s.director;
  Choice next;
  const auto is_it = [destination](const std::shared_ptr<const fleet::Endpoint>& endpoint) {
    return endpoint->address() == destination;
  };
  for (const Choice& choice : s.choices) {
    if (is_it(choice.endpoint)) next = choice;
  }
  if (next.endpoint == nullptr) {
    const auto snapshot = director.deps.fleet.snapshot();
    const auto it = std::find_if(snapshot->endpoints.begin(), snapshot->endpoints.end(), is_it);
    if (it == snapshot->endpoints.end()) return;
    next.endpoint = *it;
    next.load = director.deps.fleet.inflight().Load((*it)->id);
  }
  for (const index::HoldId hold : s.holds) director.deps.index.Release(hold);
  s.holds.clear();
  s.ticket.MoveTo(next.endpoint->id, next.rank);
  s.HoldBlocks(next);
  s.endpoint = next.endpoint;
  s.rank = next.rank;
  s.predicted_cached = next.expected_cached;
  s.load_at_decision = next.load;
  director.deps.fleet.Touch(next.endpoint->id);
  MutexLock lock(s.record->mutex);
  s.record->chosen = next.endpoint->name();
  ++s.record->attempts;
}

void Outcome::BodyChunk(size_t bytes) {
  OutcomeState& s = *state_;
  if (s.ended || bytes == 0) return;
  const TimePoint now = s.director->deps.clock.Now();
  s.response_bytes += bytes;
  if (!s.first_token_seen) {
    FirstTokenAt(s, now);
  } else if (s.stream) {
    s.metrics->itl_seconds.Observe(ToSeconds(now - s.last_chunk));
  }
  s.last_chunk = now;
  if (s.chunks++ % kChunksPerSample == 0) {
    const Duration took = s.director->deps.clock.Now() - now;
    s.processing += s.chunks == 1 ? took : took * kChunksPerSample;
  }
}

void Outcome::FirstToken() {
  if (!state_->first_token_seen && !state_->ended)
    FirstTokenAt(*state_, state_->director->deps.clock.Now());
}

void Outcome::Usage(uint64_t prompt_tokens, std::optional<uint64_t> cached_tokens,
                    std::optional<uint64_t> output_tokens) {
  OutcomeState& s = *state_;
  if (s.usage_seen || s.ended) return;
  s.usage_seen = true;
  DirectorState& director = *s.director;
  const TimePoint begin = director.deps.clock.Now();
  s.metrics->input_tokens.Observe(static_cast<double>(prompt_tokens));
  if (output_tokens) {
    s.output_tokens = *output_tokens;
    s.metrics->output_tokens.Observe(static_cast<double>(*output_tokens));
  }
  {
    MutexLock lock(director.prediction_mutex);
    PredictionStats& stats = director.predictions[s.endpoint->id];
    // Engines that report the hit leave it out when it is zero.
    if (!cached_tokens && stats.requests > 0) cached_tokens = 0;
    if (s.tokens_known) {
      ++stats.parity_checked;
      if (s.prompt_tokens == prompt_tokens) ++stats.parity_equal;
    }
    if (s.tokens_known && cached_tokens) {
      ++stats.requests;
      stats.predicted_tokens += s.predicted_cached;
      stats.delivered_tokens += *cached_tokens;
      if (s.predicted_cached == *cached_tokens) ++stats.exact;
    }
  }
  if (s.tokens_known && s.prompt_tokens != prompt_tokens)
    director.metrics.token_parity_mismatches.Add();
  if (cached_tokens) {
    s.metrics->cached_tokens.Observe(static_cast<double>(*cached_tokens));
    if (s.tokens_known) {
      const Counter& result =
          s.predicted_cached == *cached_tokens  ? director.metrics.predictions_exact
          : s.predicted_cached > *cached_tokens ? director.metrics.predictions_over
                                                : director.metrics.predictions_under;
      result.Add();
    }
  }
  {
    MutexLock lock(s.record->mutex);
    s.record->delivered_prompt_tokens = prompt_tokens;
    s.record->delivered_cached_tokens = cached_tokens;
    s.record->delivered_output_tokens = output_tokens;
  }
  s.processing += director.deps.clock.Now() - begin;
}

void Outcome::Failed(const std::string& reason, int status) {
  if (state_->ended) return;
  state_->director->deps.fleet.ReportFailure(state_->endpoint->id, reason);
  ReleaseNow(status);
}

void Outcome::Declined() {
  if (!state_->ended) ReleaseNow(0);
}

void Outcome::ReleaseNow(int status) {
  OutcomeState& s = *state_;
  s.ended = true;
  s.ticket.Release();
  DirectorState& director = *s.director;
  for (const index::HoldId hold : s.holds) director.deps.index.Release(hold);
  s.metrics->running.Add(-1);
  if (status >= 400) director.metrics.CountError(*s.metrics, status);
  const TimePoint now = director.deps.clock.Now();
  MutexLock lock(s.record->mutex);
  s.record->status = status;
  s.record->total_ms = Milliseconds(now - s.started);
}

void Outcome::Finish(int status) {
  OutcomeState& s = *state_;
  if (s.ended) return;
  s.ended = true;
  s.ticket.Release();
  DirectorState& director = *s.director;
  const TimePoint now = director.deps.clock.Now();
  director.ReleaseAfterGrace(s.holds, now);
  s.metrics->running.Add(-1);
  s.metrics->response_bytes.Observe(static_cast<double>(s.response_bytes));
  s.ObserveDurations(now);
  if (status >= 400) director.metrics.CountError(*s.metrics, status);
  if (status < 300 && director.deps.events != nullptr) {
    director.deps.events->NoteTraffic(s.endpoint->id, s.prompt_tokens);
  }
  {
    MutexLock lock(s.record->mutex);
    s.record->status = status;
    s.record->total_ms = Milliseconds(now - s.started);
  }
  s.processing += director.deps.clock.Now() - now;
  director.metrics.response_processing_seconds.Observe(ToSeconds(s.processing));
}

void DirectorState::Settle(const std::vector<UnseenAnswer>& ended, TimePoint now) {
  for (const UnseenAnswer& answer : ended) {
    ReleaseAfterGrace(answer.holds, now);
    answer.metrics->running.Add(-1);
    // Of an answer nobody saw the likeliest is that it was one.
    if (deps.events != nullptr) deps.events->NoteTraffic(answer.endpoint, answer.prompt_tokens);
  }
}

void Outcome::AnswerUnseen() {
  OutcomeState& s = *state_;
  if (s.ended) return;
  s.ended = true;
  DirectorState& director = *s.director;
  {
    MutexLock lock(s.record->mutex);
    s.record->unseen = true;
  }
  {
    MutexLock lock(director.prediction_mutex);
    ++director.predictions[s.endpoint->id].unseen_answers;
  }
  const TimePoint now = director.deps.clock.Now();
  const std::vector<UnseenAnswer> gave_way = director.unseen.Add(
      {s.endpoint->id, now, s.prompt_tokens - std::min(s.prompt_tokens, s.predicted_cached),
       s.prompt_tokens, s.max_tokens, std::move(s.ticket), std::move(s.holds), s.metrics});
  director.Settle(gave_way, now);
}

void Outcome::Abort() {
  OutcomeState& s = *state_;
  if (s.ended) return;
  s.ended = true;
  s.ticket.Release();
  // What was prefilled before the abort stays in the engine's cache and will be confirmed by
  // events.
  const TimePoint now = s.director->deps.clock.Now();
  s.director->ReleaseAfterGrace(s.holds, now);
  s.metrics->running.Add(-1);
  MutexLock lock(s.record->mutex);
  s.record->aborted = true;
  s.record->total_ms = Milliseconds(now - s.started);
}

}  // namespace warmpath::routing
