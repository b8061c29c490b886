#include "scheduling/scheduler.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <numeric>
#include <optional>

#include "base/hash.h"
#include "scheduling/plugin.h"
#include "scheduling/prefix_source.h"
#include "scheduling/specification.h"

namespace warmpath::scheduling {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

constexpr uint64_t kGolden = 0x9e3779b97f4a7c15ULL;

// llm-d's buckets of what is fast, seconds.
std::vector<double> FastBuckets() {
  return {.0001, .0002, .0005, .001, .002, .005, .01, .02, .05, .1};
}

uint64_t Mix(uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Times one step after another; costs nothing without metrics.
class Laps {
 public:
  Laps(const Clock& clock, bool on) : clock_(clock), on_(on) {
    if (on_) last_ = clock_.Now();
  }
  void Lap(const std::optional<Histogram>& duration) {
    if (!on_ || !duration) return;
    const TimePoint now = clock_.Now();
    duration->Observe(ToSeconds(now - last_));
    last_ = now;
  }

 private:
  const Clock& clock_;
  const bool on_;
  TimePoint last_{};
};

}  // namespace

struct Scheduler::Impl {
  template <typename T>
  struct Step {
    std::string name;
    T* plugin = nullptr;
    double weight = 1;  // of scorers
    std::optional<Histogram> duration;
  };

  explicit Impl(const SchedulerOptions& o) : options(o) {}

  const SchedulerOptions options;
  std::vector<std::unique_ptr<Plugin>> plugins;
  size_t slots = 0;
  std::string profile;
  std::vector<Step<Producer>> producers;
  std::vector<Step<Filter>> filters;
  std::vector<Step<Scorer>> scorers;
  Step<Picker> picker;
  Detector* detector = nullptr;
  std::vector<ProfilePlugin> scorer_list;
  std::string prefix_scorer;
  bool wants_estimated_tokens = false;
  const uint64_t seed = ProcessSeed();
  mutable std::atomic<uint64_t> draws{0};

  uint64_t Draw() const {
    return Mix(seed + draws.fetch_add(1, std::memory_order_relaxed) * kGolden);
  }
  template <typename T>
  Step<T> StepOf(const char* extension_point, const PluginSpec& spec, T* plugin,
                 double weight = 1) const {
    Step<T> step{spec.name, plugin, weight, std::nullopt};
    if (options.metrics != nullptr) {
      step.duration =
          options.metrics->AddHistogram("llm_d_epp_plugin_duration_seconds",
                                        "Time a plugin took at one extension point.", FastBuckets(),
                                        {{"extension_point", extension_point},
                                         {"plugin_type", spec.type},
                                         {"plugin_name", spec.name}});
    }
    return step;
  }
  void AddToProfile(const ParsedPlugin& parsed, const ProfilePlugin& entry, Plugin* plugin);
  Result<std::vector<Plugin*>> Instantiate(const std::vector<ParsedPlugin>& parsed);
  Status UseProfile(const SchedulerSpec& spec, const std::vector<ParsedPlugin>& parsed,
                    const std::vector<Plugin*>& instances);
  Status UseDetector(const SchedulerSpec& spec, const std::vector<ParsedPlugin>& parsed,
                     const std::vector<Plugin*>& instances);
  void Run(Request& request, Decision& decision) const;
};

Scheduler::Scheduler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Scheduler::~Scheduler() = default;

// Instances entry by entry of `parsed`; nullptr for passive types.
Result<std::vector<Plugin*>> Scheduler::Impl::Instantiate(const std::vector<ParsedPlugin>& parsed) {
  WP_TRY(const std::vector<size_t> order, CreationOrder(parsed));
  std::vector<Plugin*> instances(parsed.size(), nullptr);
  const auto find = [&](std::string_view name) -> Plugin* {
    const int found = FindPlugin(parsed, name);
    return found < 0 ? nullptr : instances[static_cast<size_t>(found)];
  };
  for (const size_t i : order) {
    const ParsedPlugin& plugin = parsed[i];
    if (plugin.type->experimental && !options.allow_experimental) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("plugin '{}' (type: '{}') has Alpha stability level, but command "
                              "line flag --allow-experimental-plugins is not set",
                              plugin.spec->name, plugin.spec->type));
    }
    if (!plugin.type->create) continue;
    PluginContext context{plugin.parameters, plugin.spec->name, slots, *options.clock, find};
    context.type = plugin.spec->type;
    context.by_default = plugin.spec->by_default;
    context.metrics = options.metrics;
    context.scrape_interval = options.scrape_interval;
    auto created = plugin.type->create(context);
    if (!created) return Fail(created.error(), "failed to create " + plugin.Where());
    instances[i] = created->get();
    plugins.push_back(std::move(*created));
    wants_estimated_tokens |= instances[i]->wants_estimated_tokens();
    if (auto* producer = dynamic_cast<Producer*>(instances[i])) {
      ++slots;
      const auto* prefixes = dynamic_cast<const PrefixProducer*>(producer);
      if (prefixes != nullptr && prefixes->serves() == PrefixProducer::Serves::kExact) continue;
      producers.push_back(StepOf("DataProducer", *plugin.spec, producer));
    }
  }
  return instances;
}

void Scheduler::Impl::AddToProfile(const ParsedPlugin& parsed, const ProfilePlugin& entry,
                                   Plugin* plugin) {
  if (auto* filter = dynamic_cast<Filter*>(plugin)) {
    filters.push_back(StepOf("Filter", *parsed.spec, filter));
  }
  if (auto* scorer = dynamic_cast<Scorer*>(plugin)) {
    scorers.push_back(StepOf("Scorer", *parsed.spec, scorer, entry.weight));
    scorer_list.push_back(entry);
    if (prefix_scorer.empty() && scorer->about_prefixes()) {
      prefix_scorer = parsed.spec->type + "/" + parsed.spec->name;
    }
  }
  if (auto* instance = dynamic_cast<Picker*>(plugin)) {
    picker = StepOf("Picker", *parsed.spec, instance);
  }
}

Status Scheduler::Impl::UseProfile(const SchedulerSpec& spec,
                                   const std::vector<ParsedPlugin>& parsed,
                                   const std::vector<Plugin*>& instances) {
  std::vector<std::string> names;
  for (const ProfileSpec& candidate : spec.profiles) names.push_back(candidate.name);
  const ProfileSpec* used = nullptr;
  for (size_t i = 0; i < parsed.size(); ++i) {
    const auto* handler = dynamic_cast<ProfileHandler*>(instances[i]);
    if (handler == nullptr) continue;
    if (const Status accepted = handler->Accept(names); !accepted) {
      return Fail(accepted.error(), fmt::format("plugin '{}'", parsed[i].spec->name));
    }
    used = &spec.profiles[handler->Primary()];
  }
  profile = used->name;
  for (const ProfilePlugin& entry : used->plugins) {
    const auto i = static_cast<size_t>(FindPlugin(parsed, entry.plugin));
    AddToProfile(parsed[i], entry, instances[i]);
  }
  return {};
}

Status Scheduler::Impl::UseDetector(const SchedulerSpec& spec,
                                    const std::vector<ParsedPlugin>& parsed,
                                    const std::vector<Plugin*>& instances) {
  const std::string name =
      spec.saturation_detector.empty() ? "utilization-detector" : spec.saturation_detector;
  if (const int found = FindPlugin(parsed, name); found >= 0) {
    detector = dynamic_cast<Detector*>(instances[static_cast<size_t>(found)]);
  }
  if (detector != nullptr) return {};
  const SchedulerSpec with_defaults{{{"utilization-detector", "utilization-detector"}}, {}};
  WP_TRY(const auto defaults, ParsePlugins(with_defaults));
  WP_TRY(const auto made, Instantiate(defaults));
  detector = dynamic_cast<Detector*>(made.front());
  return {};
}

Result<std::unique_ptr<Scheduler>> Scheduler::Create(const SchedulerSpec& requested,
                                                     const SchedulerOptions& options) {
  WP_TRY(const SchedulerSpec spec, CompleteSpec(requested));
  auto impl = std::make_unique<Impl>(options);
  WP_TRY(const auto parsed, ParsePlugins(spec));
  WP_TRY(const auto instances, impl->Instantiate(parsed));
  WP_RETURN_IF_ERROR(impl->UseProfile(spec, parsed, instances));
  WP_RETURN_IF_ERROR(impl->UseDetector(spec, parsed, instances));
  return std::unique_ptr<Scheduler>(new Scheduler(std::move(impl)));
}

namespace {

// Of one Run; a thread's is used again.
struct RunMemory {
  std::vector<size_t> left;
  std::vector<char> was;  // candidates before the filter at hand
  std::vector<double> scores;
  std::vector<double> totals;
};
thread_local RunMemory run_memory;

}  // namespace

void Scheduler::Impl::Run(Request& request, Decision& decision) const {
  const size_t n = request.candidates.size();
  Laps laps(*options.clock, options.metrics != nullptr);
  if (!producers.empty()) {
    request.produced.assign(slots, nullptr);
    for (Candidate& candidate : request.candidates) candidate.produced.assign(slots, {});
    for (const Step<Producer>& step : producers) {
      step.plugin->Produce(request);
      laps.Lap(step.duration);
    }
  }

  decision.profile = profile;
  decision.picker = picker.name;
  decision.picked.clear();
  decision.notes.clear();
  decision.effects = {};
  decision.filtered_by.assign(n, {});
  decision.totals.assign(n, kNone);

  std::vector<size_t>& left = run_memory.left;
  left.resize(n);
  std::iota(left.begin(), left.end(), size_t{0});
  std::vector<char>& was = run_memory.was;
  was.assign(n, 1);
  for (const Step<Filter>& step : filters) {
    const size_t before = left.size();
    step.plugin->Narrow(request, left, Draw());
    laps.Lap(step.duration);
    if (left.size() == before) continue;
    for (const size_t i : left) was[i] = 2;
    for (size_t i = 0; i < n; ++i) {
      if (was[i] == 1) decision.filtered_by[i] = step.name;
      was[i] = was[i] == 2 ? 1 : 0;
    }
  }

  std::vector<double>& totals = run_memory.totals;
  totals.assign(left.size(), 0.0);
  decision.scores.resize(scorers.size());
  for (size_t s = 0; s < scorers.size(); ++s) {
    const Step<Scorer>& step = scorers[s];
    PluginScore& row = decision.scores[s];
    row.plugin = step.name;
    row.weight = step.weight;
    row.scores.assign(n, kNone);
    if (left.empty()) continue;
    std::vector<double>& scores = run_memory.scores;
    scores.assign(left.size(), 0.0);
    step.plugin->Score(request, left, scores, decision.notes);
    laps.Lap(step.duration);
    for (size_t i = 0; i < left.size(); ++i) {
      const double score = std::isfinite(scores[i]) ? std::clamp(scores[i], 0.0, 1.0) : 0.0;
      row.scores[left[i]] = score;
      totals[i] += score * step.weight;
    }
  }
  for (size_t i = 0; i < left.size(); ++i) decision.totals[left[i]] = totals[i];
  if (!left.empty()) {
    picker.plugin->Pick(left, totals, Draw(), decision.picked);
    laps.Lap(picker.duration);
  }
}

void Scheduler::Schedule(Request& request, Decision& decision) const {
  impl_->Run(request, decision);
  if (decision.picked.empty()) return;
  const Candidate& picked = request.candidates[decision.picked.front()];
  for (const auto& plugin : impl_->plugins) plugin->Picked(request, picked, decision.effects);
}

void Scheduler::DryRun(Request& request, Decision& decision) const {
  impl_->Run(request, decision);
}

Decision Scheduler::Schedule(Request& request) const {
  Decision decision;
  Schedule(request, decision);
  return decision;
}

Decision Scheduler::DryRun(Request& request) const {
  Decision decision;
  DryRun(request, decision);
  return decision;
}

double Scheduler::Saturation(const Request& request) const {
  return impl_->detector->Saturation(request.candidates);
}
bool Scheduler::wants_estimated_tokens() const {
  return impl_->wants_estimated_tokens;
}

void Scheduler::Observe(const Observation& observation) const {
  for (const auto& plugin : impl_->plugins) plugin->Observe(observation);
}

const std::vector<ProfilePlugin>& Scheduler::scorers() const {
  return impl_->scorer_list;
}
std::vector<std::string> Scheduler::filters() const {
  std::vector<std::string> names;
  for (const auto& step : impl_->filters) names.push_back(step.name);
  return names;
}
const std::string& Scheduler::prefix_scorer() const {
  return impl_->prefix_scorer;
}

SchedulerSpec DefaultSchedulerSpec() {
  SchedulerSpec spec;
  spec.plugins = {{"expected-cost-scorer", "expected-cost-scorer", "{}"},
                  {"max-score-picker", "max-score-picker", "{}"},
                  {"single-profile-handler", "single-profile-handler", "{}"}};
  spec.profiles = {{"default", {{"expected-cost-scorer", 1.0}, {"max-score-picker", 1.0}}}};
  return spec;
}

}  // namespace warmpath::scheduling
