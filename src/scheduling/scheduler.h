// Filters, weighted scorers and a picker, as configured. Immutable after Create but for what
// plugins learn; thread-safe.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "scheduling/types.h"

namespace warmpath::scheduling {

// A plugin instance as the configuration names it. `parameters_json` is one JSON object ("{}" when
// absent).
struct PluginSpec {
  std::string type;
  std::string name;  // defaults to type
  std::string parameters_json = "{}";
  bool by_default = false;  // CompleteSpec added it because other plugins need it
};

struct ProfilePlugin {
  std::string plugin;   // a PluginSpec name
  double weight = 1.0;  // scorers only
};

struct ProfileSpec {
  std::string name;
  std::vector<ProfilePlugin> plugins;
};

struct SchedulerSpec {
  std::vector<PluginSpec> plugins;
  std::vector<ProfileSpec> profiles;
  // A PluginSpec name; "": utilization-detector, with its defaults where none is configured.
  std::string saturation_detector{};
  // What CompleteSpec made of it that may surprise, for people.
  std::vector<std::string> notes{};
};

struct SchedulerOptions {
  bool allow_experimental = false;
  Registry* metrics = nullptr;  // plugin durations; null: none
  const Clock* clock = &SystemClock();
  // The longest pause between two scrapes of an endpoint that answers: detectors take figures for
  // stale only when they are older than that by metricsStalenessThreshold.
  Duration scrape_interval = std::chrono::seconds(2);
};

// What an observed response teaches (expected-cost-scorer: rates per endpoint).
struct Observation {
  fleet::EndpointId endpoint = 0;
  uint64_t uncached_tokens = 0;
  fleet::InflightLoad load_at_decision;  // of that endpoint, before this request
  Duration time_to_first_token{};
};

class Scheduler {
 public:
  // Errors name the plugin and the parameter.
  static Result<std::unique_ptr<Scheduler>> Create(const SchedulerSpec& spec,
                                                   const SchedulerOptions& options = {});
  ~Scheduler();

  // Producers write into the request's candidates first. `decision` is overwritten; its memory is
  // used again.
  void Schedule(Request& request, Decision& decision) const;
  Decision Schedule(Request& request) const;
  Decision Schedule(Request&& request) const { return Schedule(request); }
  // As Schedule, without remembering anything (explain).
  void DryRun(Request& request, Decision& decision) const;
  Decision DryRun(Request& request) const;
  Decision DryRun(Request&& request) const { return DryRun(request); }
  // Of all candidates together, by the configured detector: 1 and more is saturated.
  double Saturation(const Request& request) const;
  // A plugin matches prefixes by itself and takes pseudo tokens where exact ones cannot be had.
  bool wants_estimated_tokens() const;
  void Observe(const Observation& observation) const;
  // {scorer name: weight} of the profile in use.
  const std::vector<ProfilePlugin>& scorers() const;
  // Names of the profile's filters, in their order.
  std::vector<std::string> filters() const;
  // The name ("type/name") under which "Got pod scores" is logged: of the first scorer that looks
  // at cached prefixes (prefix scorers, expected-cost-scorer), or "" when none is configured.
  const std::string& prefix_scorer() const;

 private:
  struct Impl;
  explicit Scheduler(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// Fills in what a specification may leave out, and checks references: name := type; no profiles:
// one, `default`, with every filter, scorer and picker configured; a profile without picker: a
// max-score-picker; one profile and no handler: single-profile-handler; prefix matches are read and
// nobody is there to produce them: an approx-prefix-cache-producer. Refuses types that this program
// does not have, and wrong parameters. Idempotent; Create does it too.
Result<SchedulerSpec> CompleteSpec(SchedulerSpec spec);

// `serve` without a configuration: routing by expected cost (spec: default policy).
SchedulerSpec DefaultSchedulerSpec();

}  // namespace warmpath::scheduling
