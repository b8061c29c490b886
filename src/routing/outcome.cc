// Outcome: what a response teaches, and the release of everything its request had booked.
#include "base/check.h"
#include "routing/state.h"

namespace warmpath::routing {
namespace {

double Milliseconds(Duration duration) {
  return ToSeconds(duration) * 1e3;
}

}  // namespace

Outcome::Outcome(std::unique_ptr<OutcomeState> state) : state_(std::move(state)) {}
Outcome::Outcome(Outcome&&) noexcept = default;
Outcome& Outcome::operator=(Outcome&& other) noexcept {
  if (this != &other) {
    if (state_ != nullptr) Abort();
    state_ = std::move(other.state_);
  }
  return *this;
}
Outcome::~Outcome() {
  if (state_ != nullptr) Abort();
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

void Outcome::FirstToken() {
  OutcomeState& s = *state_;
  if (s.first_token_seen || s.ended) return;
  s.first_token_seen = true;
  s.ticket.PrefillDone();
  const TimePoint now = s.director->deps.clock.Now();
  s.director->metrics.ForModel(s.model).ttft_seconds.Observe(ToSeconds(now - s.started));
  // Only a stream's first byte marks the end of prefill; a whole answer's comes after its decode.
  if (s.stream && s.tokens_known) {
    s.director->deps.scheduler.Observe({s.endpoint->id, s.prompt_tokens - s.predicted_cached,
                                        s.load_at_decision, now - s.decided});
  }
  s.director->records.Update(*s.record, [&](DecisionRecord& record) {
    record.first_byte_ms = Milliseconds(now - s.started);
  });
}

void Outcome::Usage(uint64_t prompt_tokens, std::optional<uint64_t> cached_tokens,
                    std::optional<uint64_t>) {
  OutcomeState& s = *state_;
  if (s.usage_seen || s.ended) return;
  s.usage_seen = true;
  DirectorState& director = *s.director;
  const ModelMetrics& metrics = director.metrics.ForModel(s.model);
  metrics.input_tokens.Observe(static_cast<double>(prompt_tokens));
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
    metrics.cached_tokens.Observe(static_cast<double>(*cached_tokens));
    if (s.tokens_known) {
      const Counter& result =
          s.predicted_cached == *cached_tokens  ? director.metrics.predictions_exact
          : s.predicted_cached > *cached_tokens ? director.metrics.predictions_over
                                                : director.metrics.predictions_under;
      result.Add();
    }
  }
  director.records.Update(*s.record, [&](DecisionRecord& record) {
    record.delivered_prompt_tokens = prompt_tokens;
    record.delivered_cached_tokens = cached_tokens;
  });
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
  director.metrics.ForModel(s.model).running.Add(-1);
  if (status >= 400) director.metrics.CountError(s.model, std::to_string(status));
  const TimePoint now = director.deps.clock.Now();
  director.records.Update(*s.record, [&](DecisionRecord& record) {
    record.status = status;
    record.total_ms = Milliseconds(now - s.started);
  });
}

void Outcome::Finish(int status) {
  OutcomeState& s = *state_;
  if (s.ended) return;
  s.ended = true;
  s.ticket.Release();
  DirectorState& director = *s.director;
  director.ReleaseAfterGrace(s.holds);
  const TimePoint now = director.deps.clock.Now();
  const ModelMetrics& metrics = director.metrics.ForModel(s.model);
  metrics.running.Add(-1);
  metrics.duration_seconds.Observe(ToSeconds(now - s.started));
  if (status >= 400) director.metrics.CountError(s.model, std::to_string(status));
  if (status < 300 && director.deps.events != nullptr) {
    director.deps.events->NoteTraffic(s.endpoint->id, s.prompt_tokens);
  }
  director.records.Update(*s.record, [&](DecisionRecord& record) {
    record.status = status;
    record.total_ms = Milliseconds(now - s.started);
  });
}

void Outcome::Abort() {
  OutcomeState& s = *state_;
  if (s.ended) return;
  s.ended = true;
  s.ticket.Release();
  // What was prefilled before the abort stays in the engine's cache and will be confirmed by
  // events.
  s.director->ReleaseAfterGrace(s.holds);
  s.director->metrics.ForModel(s.model).running.Add(-1);
  const TimePoint now = s.director->deps.clock.Now();
  s.director->records.Update(*s.record, [&](DecisionRecord& record) {
    record.aborted = true;
    record.total_ms = Milliseconds(now - s.started);
  });
}

}  // namespace warmpath::routing
