#include "scheduling/plugins/scorers/expected_cost_scorer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "base/hash.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/scheduler.h"

namespace warmpath::scheduling {
namespace {

constexpr double kTieSeconds = 0.001, kTieShare = 0.05;
constexpr double kDecodesToHalve = 64;  // so many decodes double a prefill's time
constexpr double kStale = 0.995;        // weight lost per observation made elsewhere
constexpr double kTieStep = 1e-6;       // between the scores of tied candidates
constexpr size_t kMaxEndpoints = 10'000;
constexpr uint64_t kMostLag = 16;  // observations that a thread's rates may be behind
constexpr size_t kOrderedTies = 32;
// Estimates of equal machines scatter, and a cold prefix would always go to the luckiest one. Only
// a difference beyond this factor, for a prompt of kTypicalTokens, is taken for another kind of
// machine.
constexpr double kSameSpeed = 1.25, kTypicalTokens = 1000;

// How much slower prefill is beside the decodes of `load`.
double Slowdown(const fleet::InflightLoad& load) {
  const auto decodes =
      static_cast<double>(std::max<int64_t>(0, load.requests - load.prefill_requests));
  return 1 + std::min(1.0, decodes / kDecodesToHalve);
}

double Positive(int64_t value) {
  return static_cast<double>(std::max<int64_t>(0, value));
}

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

}  // namespace

thread_local std::vector<ExpectedCostScorer::Seen> ExpectedCostScorer::seen_;
thread_local uint64_t ExpectedCostScorer::seen_by_ = 0;

ExpectedCostScorer::ExpectedCostScorer(const Options& options)
    : options_(options), number_([] {
        static std::atomic<uint64_t> instances{0};
        return ++instances;
      }()) {}

PrefillRates ExpectedCostScorer::Rates(const Learned* learned, const PrefillRates& shared) const {
  if (learned == nullptr || learned->observed_at == 0) return shared;
  // What was learned long ago gives way to what the fleet shows now, so that a bad moment is not
  // believed for ever.
  PrefillEstimator estimator = learned->estimator;
  estimator.Forget(std::pow(kStale, static_cast<double>(observations_ - learned->observed_at)));
  const PrefillRates own = estimator.Estimate(shared);
  const double ratio = own.Seconds(kTypicalTokens) / shared.Seconds(kTypicalTokens);
  return ratio < kSameSpeed && ratio > 1 / kSameSpeed ? shared : own;
}

void ExpectedCostScorer::See(const Request& request, std::span<const size_t> candidates) const {
  if (seen_by_ != number_) {
    seen_.clear();
    seen_by_ = number_;
  }
  seen_.resize(request.candidates.size());
  const uint64_t membership = membership_.load(std::memory_order_acquire);
  const uint64_t observations = observations_.load(std::memory_order_acquire);
  const uint64_t lag = std::min(kMostLag, observations / kMostLag);
  const auto fresh = [&](size_t i) {
    const Seen& seen = seen_[i];
    return seen.endpoint == request.candidates[i].endpoint->id && seen.membership == membership &&
           observations - seen.observations <= lag;
  };
  size_t at = 0;
  while (at < candidates.size() && fresh(candidates[at])) ++at;
  if (at == candidates.size()) return;

  ReaderLock lock(mutex_);
  const PrefillRates shared = everyone_.Estimate(options_.prior);
  for (; at < candidates.size(); ++at) {
    const size_t i = candidates[at];
    if (fresh(i)) continue;
    const fleet::EndpointId id = request.candidates[i].endpoint->id;
    const auto it = learned_.find(id);
    const std::shared_ptr<const Learned> learned = it == learned_.end() ? nullptr : it->second;
    seen_[i] = {id, membership, observations, Rates(learned.get(), shared), learned};
  }
}

ExpectedCostScorer::Learned& ExpectedCostScorer::LearnedOf(fleet::EndpointId endpoint) {
  const auto found = learned_.find(endpoint);
  if (found != learned_.end()) return *found->second;
  if (learned_.size() >= kMaxEndpoints) {
    const auto oldest = std::min_element(
        learned_.begin(), learned_.end(),
        [](const auto& a, const auto& b) { return a.second->observed_at < b.second->observed_at; });
    learned_.erase(oldest);
  }
  const auto made = learned_.emplace(endpoint, std::make_shared<Learned>()).first;
  membership_.fetch_add(1, std::memory_order_release);
  return *made->second;
}

double ExpectedCostScorer::Cost(const Candidate& c, const PrefillRates& rates,
                                std::vector<std::string>& notes) const {
  const auto term = [&](const char* name, double value) {
    if (std::isfinite(value) && value >= 0) return value;
    notes.push_back(
        fmt::format("{}: {} of the cost is unknown and left out", c.endpoint->name(), name));
    return 0.0;
  };
  const double slowdown = Slowdown(c.inflight);
  const double uncached =
      static_cast<double>(c.prompt_tokens - std::min(c.prompt_tokens, c.expected_cached_tokens));
  const double ranks = std::max<uint16_t>(1, c.endpoint->spec.data_parallel);

  double wait = rates.per_token_s * slowdown * Positive(c.inflight.prefill_tokens) / ranks;
  // Requests waiting there that this router did not send are taken to be like this one.
  const double foreign = std::max(0.0, c.endpoint->load.waiting - Positive(c.inflight.requests));
  wait += foreign / ranks * rates.Seconds(static_cast<double>(c.prompt_tokens));

  const double prefill = rates.base_s + rates.per_token_s * slowdown * uncached;

  double evicted = 0;
  if (c.capacity_blocks > 0 && c.block_size > 0) {
    const double fresh = std::ceil(uncached / c.block_size);
    const double over =
        static_cast<double>(c.resident_blocks) + fresh - static_cast<double>(c.capacity_blocks);
    evicted = std::clamp(over, 0.0, fresh);
  }
  const double recompute = rates.per_token_s * c.block_size * evicted;

  return term("wait", wait) + options_.prefill_weight * term("prefill", prefill) +
         options_.eviction_weight * term("recompute", recompute);
}

void ExpectedCostScorer::Score(const Request& request, std::span<const size_t> candidates,
                               std::span<double> scores, std::vector<std::string>& notes) const {
  if (candidates.empty()) return;
  See(request, candidates);
  double lowest = INFINITY;
  for (size_t at = 0; at < candidates.size(); ++at) {
    const size_t i = candidates[at];
    scores[at] = Cost(request.candidates[i], seen_[i].rates, notes);
    lowest = std::min(lowest, scores[at]);
  }

  using Order = std::tuple<int64_t, uint64_t, uint64_t, size_t>;
  thread_local std::vector<Order> tied;
  tied.clear();
  const double limit = lowest + std::max(kTieSeconds, kTieShare * lowest);
  for (size_t at = 0; at < candidates.size(); ++at) {
    const double cost = scores[at];
    scores[at] = cost > 0 ? lowest / cost : 1.0;
    if (cost > limit) continue;
    const Candidate& c = request.candidates[candidates[at]];
    const Learned* learned = seen_[candidates[at]].learned.get();
    tied.emplace_back(c.inflight.requests,
                      learned == nullptr ? 0 : learned->cold_at.load(std::memory_order_relaxed),
                      Mix(options_.salt ^ Mix(c.endpoint->id)), at);
  }
  // Fallbacks come from the front as well; how the rest is ordered decides nothing.
  const size_t ordered = std::min(tied.size(), kOrderedTies);
  std::partial_sort(tied.begin(), tied.begin() + static_cast<ptrdiff_t>(ordered), tied.end());
  for (size_t rank = 0; rank < tied.size(); ++rank) {
    double& score = scores[std::get<3>(tied[rank])];
    score = rank == 0
                ? 1.0
                : std::min(score, 1 - kTieStep * static_cast<double>(std::min(rank, ordered)));
  }
}

void ExpectedCostScorer::Picked(const Request&, const Candidate& picked, PickEffects&) {
  if (picked.expected_cached_tokens > 0) return;
  const uint64_t now = cold_prompts_.fetch_add(1, std::memory_order_relaxed) + 1;
  {
    ReaderLock lock(mutex_);
    const auto found = learned_.find(picked.endpoint->id);
    if (found != learned_.end()) {
      found->second->cold_at.store(now, std::memory_order_relaxed);
      return;
    }
  }
  WriterLock lock(mutex_);
  LearnedOf(picked.endpoint->id).cold_at.store(now, std::memory_order_relaxed);
}

void ExpectedCostScorer::Observe(const Observation& o) {
  const double tokens =
      (static_cast<double>(o.uncached_tokens) + Positive(o.load_at_decision.prefill_tokens)) *
      Slowdown(o.load_at_decision);
  const double seconds = ToSeconds(o.time_to_first_token);
  WriterLock lock(mutex_);
  Learned& learned = LearnedOf(o.endpoint);
  const PrefillRates shared = everyone_.Estimate(options_.prior);
  if (learned.observed_at != 0) {
    learned.estimator.Forget(
        std::pow(kStale, static_cast<double>(observations_ - learned.observed_at)));
  }
  learned.estimator.Observe(tokens, seconds, shared);
  everyone_.Observe(tokens, seconds, options_.prior);
  learned.observed_at = ++observations_;
}

std::vector<PluginType> ExpectedCostScorerTypes() {
  PluginType type{"expected-cost-scorer", Role::kScorer, {}, {}, {}};
  type.parameters = {Number("prefillWeight", 0, 1000), Number("evictionWeight", 0, 1000),
                     DurationOf("priorBase"), DurationOf("priorPerToken")};
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    const codec::Json& parameters = context.parameters;
    ExpectedCostScorer::Options options;
    options.prefill_weight = NumberParameter(parameters, "prefillWeight", options.prefill_weight);
    options.eviction_weight =
        NumberParameter(parameters, "evictionWeight", options.eviction_weight);
    if (const auto base = DurationParameter(parameters, "priorBase"))
      options.prior.base_s = ToSeconds(*base);
    if (const auto rate = DurationParameter(parameters, "priorPerToken")) {
      options.prior.per_token_s = ToSeconds(*rate);
    }
    options.salt = ProcessSeed();
    return std::make_unique<ExpectedCostScorer>(options);
  };
  return {type};
}

}  // namespace warmpath::scheduling
