// expected-cost-scorer: what a request costs at each endpoint, in seconds; the default rule.
//
//   cost = wait + k * prefill(uncached tokens) + e * recompute(blocks that must leave the cache)
//
//   - wait: uncached prefill tokens in flight there (and requests waiting there that are not ours),
//     at its rate
//   - prefill: base + per_token * tokens, slower while it decodes (twice at 64 decodes)
//   - recompute: per_token * block size * blocks; blocks = what exceeds the capacity once the new
//     ones are stored
//
// k = 3: a hit spares everyone behind it too. e = 0.6: an evicted block is probably needed again.
// base and per_token are learned per endpoint (prefill_rates.h). Score = lowest cost / cost.
// Candidates within max(1 ms, 5 %) of the lowest are ordered by requests in flight, then by how
// long ago they were given a cold prompt, then by a salt of this process; the first of them
// scores 1. A term that is not finite counts 0 and is noted. Thread-safe: each thread keeps the
// rates it used last, and asks for them anew after one to sixteen observations of the fleet.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/mutex.h"
#include "scheduling/plugin.h"
#include "scheduling/plugins/scorers/prefill_rates.h"

namespace warmpath::scheduling {

class ExpectedCostScorer final : public Scorer {
 public:
  struct Options {
    double prefill_weight = 3;     // k
    double eviction_weight = 0.6;  // e
    PrefillRates prior;
    uint64_t salt = 0;
  };
  explicit ExpectedCostScorer(const Options& options);

  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>& notes) const override;
  bool about_prefixes() const override { return true; }
  void Picked(const Request& request, const Candidate& picked, PickEffects& effects) override;
  void Observe(const Observation& observation) override;

 private:
  // Under mutex_ but for cold_at.
  struct Learned {
    PrefillEstimator estimator;
    uint64_t observed_at = 0;          // count of all observations when this one was last updated
    std::atomic<uint64_t> cold_at{0};  // when it was last given a cold prompt; 0 = never
  };
  // What a thread remembers of the endpoint at one place among the candidates.
  struct Seen {
    fleet::EndpointId endpoint = 0;
    uint64_t membership = 0;
    uint64_t observations = 0;  // then
    PrefillRates rates;
    std::shared_ptr<const Learned> learned;  // null: nothing yet
  };
  static thread_local std::vector<Seen> seen_;
  static thread_local uint64_t seen_by_;  // number_ of the scorer they are of

  // Of all candidates, by place.
  void See(const Request& request, std::span<const size_t> candidates) const;
  PrefillRates Rates(const Learned* learned, const PrefillRates& shared) const
      REQUIRES_SHARED(mutex_);
  // Seconds; terms that are not finite already taken as 0.
  double Cost(const Candidate& candidate, const PrefillRates& rates,
              std::vector<std::string>& notes) const;
  Learned& LearnedOf(fleet::EndpointId endpoint) REQUIRES(mutex_);

  const Options options_;
  const uint64_t number_;  // of this instance in the process, from 1
  mutable SharedMutex mutex_;
  PrefillEstimator everyone_ GUARDED_BY(mutex_);
  std::atomic<uint64_t> observations_{0};  // written under mutex_
  std::atomic<uint64_t> membership_{1};  // of learned_: changes with every entry that comes or goes
  std::atomic<uint64_t> cold_prompts_{0};
  std::unordered_map<fleet::EndpointId, std::shared_ptr<Learned>> learned_ GUARDED_BY(mutex_);
};

}  // namespace warmpath::scheduling
