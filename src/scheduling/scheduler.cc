#include "scheduling/scheduler.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "base/hash.h"
#include "scheduling/plugin.h"

namespace warmpath::scheduling {
namespace {

constexpr double kNone = std::numeric_limits<double>::quiet_NaN();

const PluginSpec* FindSpec(const SchedulerSpec& spec, const std::string& name) {
  for (const PluginSpec& plugin : spec.plugins) {
    if (plugin.name == name) return &plugin;
  }
  return nullptr;
}

tl::unexpected<Error> Invalid(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

// Role of a plugin of a completed specification.
Role RoleOf(const SchedulerSpec& spec, const std::string& name) {
  return FindPluginType(FindSpec(spec, name)->type)->role;
}

Status CheckPlugins(SchedulerSpec& spec) {
  std::set<std::string> names;
  for (PluginSpec& plugin : spec.plugins) {
    if (plugin.type.empty())
      return Invalid(fmt::format("plugin '{}' is missing a type", plugin.name));
    if (plugin.name.empty()) plugin.name = plugin.type;
    if (!names.insert(plugin.name).second) {
      return Invalid(fmt::format("duplicate plugin name '{}'", plugin.name));
    }
    if (FindPluginType(plugin.type) == nullptr) {
      return Invalid(
          fmt::format("plugin '{}': plugin type '{}' is not registered", plugin.name, plugin.type));
    }
  }
  return {};
}

// A name for a plugin that was not configured: its type, unless that is taken.
std::string AddPlugin(SchedulerSpec& spec, const std::string& type) {
  std::string name = type;
  for (int i = 2; FindSpec(spec, name) != nullptr; ++i) name = fmt::format("{}-{}", type, i);
  spec.plugins.push_back({type, name, "{}"});
  return name;
}

Status CheckProfile(const SchedulerSpec& spec, const ProfileSpec& profile) {
  std::string picker;
  for (const ProfilePlugin& entry : profile.plugins) {
    const PluginSpec* plugin = FindSpec(spec, entry.plugin);
    if (plugin == nullptr) {
      return Invalid(fmt::format("schedulingProfiles[{}] references undefined plugin '{}'",
                                 profile.name, entry.plugin));
    }
    const Role role = FindPluginType(plugin->type)->role;
    if (role == Role::kHandler || role == Role::kPassive) {
      return Invalid(fmt::format(
          "schedulingProfiles[{}] references '{}' (type: {}), which is no filter, scorer or picker",
          profile.name, entry.plugin, plugin->type));
    }
    if (role == Role::kScorer && !std::isfinite(entry.weight)) {
      return Invalid(fmt::format("schedulingProfiles[{}]: the weight of '{}' must be a number",
                                 profile.name, entry.plugin));
    }
    if (role != Role::kPicker) continue;
    if (!picker.empty()) {
      return Invalid(fmt::format(
          "schedulingProfiles[{}]: failed to set '{}' as picker, already have a registered "
          "picker plugin '{}'",
          profile.name, entry.plugin, picker));
    }
    picker = entry.plugin;
  }
  return {};
}

}  // namespace

Result<SchedulerSpec> CompleteSpec(SchedulerSpec spec) {
  WP_RETURN_IF_ERROR(CheckPlugins(spec));
  if (spec.profiles.empty()) {
    ProfileSpec profile{"default", {}};
    for (const PluginSpec& plugin : spec.plugins) {
      const Role role = FindPluginType(plugin.type)->role;
      if (role == Role::kFilter || role == Role::kScorer || role == Role::kPicker) {
        profile.plugins.push_back({plugin.name, 1.0});
      }
    }
    spec.profiles.push_back(std::move(profile));
  }
  std::set<std::string> profiles;
  for (size_t i = 0; i < spec.profiles.size(); ++i) {
    const ProfileSpec& profile = spec.profiles[i];
    if (profile.name.empty())
      return Invalid(fmt::format("schedulingProfiles[{}] is missing a name", i));
    if (!profiles.insert(profile.name).second) {
      return Invalid(
          fmt::format("schedulingProfiles[{}] has duplicate name '{}'", i, profile.name));
    }
    WP_RETURN_IF_ERROR(CheckProfile(spec, profile));
  }
  std::string handler;
  for (const PluginSpec& plugin : spec.plugins) {
    if (FindPluginType(plugin.type)->role != Role::kHandler) continue;
    if (!handler.empty()) {
      return Invalid(
          fmt::format("multiple profile handlers found ('{}', '{}'); only one is allowed", handler,
                      plugin.name));
    }
    handler = plugin.name;
  }
  if (handler.empty()) {
    if (spec.profiles.size() > 1) return Invalid("no profile handler configured");
    AddPlugin(spec, "single-profile-handler");
  }
  std::string shared_picker;
  for (ProfileSpec& profile : spec.profiles) {
    const bool has_picker = std::any_of(
        profile.plugins.begin(), profile.plugins.end(),
        [&](const ProfilePlugin& p) { return RoleOf(spec, p.plugin) == Role::kPicker; });
    if (has_picker) continue;
    if (shared_picker.empty()) {
      for (const PluginSpec& plugin : spec.plugins) {
        if (plugin.type == "max-score-picker") shared_picker = plugin.name;
      }
      if (shared_picker.empty()) shared_picker = AddPlugin(spec, "max-score-picker");
    }
    profile.plugins.push_back({shared_picker, 1.0});
  }
  return spec;
}

struct Scheduler::Impl {
  struct WeightedScorer {
    std::string name;
    double weight = 1;
    Scorer* scorer = nullptr;
  };
  struct NamedFilter {
    std::string name;
    Filter* filter = nullptr;
  };

  std::map<std::string, std::unique_ptr<Plugin>> plugins;
  std::string profile;
  std::vector<NamedFilter> filters;
  std::vector<WeightedScorer> scorers;
  std::string picker_name;
  Picker* picker = nullptr;
  std::vector<ProfilePlugin> scorer_list;
  std::string prefix_scorer;
  const uint64_t seed = ProcessSeed();
  mutable std::atomic<uint64_t> draws{0};

  Decision Run(const Request& request) const;
};

Scheduler::Scheduler(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Scheduler::~Scheduler() = default;

Result<std::unique_ptr<Scheduler>> Scheduler::Create(const SchedulerSpec& requested,
                                                     const SchedulerOptions& options) {
  WP_TRY(const SchedulerSpec spec, CompleteSpec(requested));
  auto impl = std::make_unique<Impl>();
  ProfileHandler* handler = nullptr;
  std::string handler_name;
  for (const PluginSpec& plugin : spec.plugins) {
    const PluginType& type = *FindPluginType(plugin.type);
    const std::string where = fmt::format("plugin '{}' (type: {})", plugin.name, plugin.type);
    auto parameters = codec::ParseJson(
        plugin.parameters_json.empty() ? "{}" : std::string_view(plugin.parameters_json));
    if (!parameters) return Fail(parameters.error(), where + ": parameters");
    if (parameters->is_null()) *parameters = codec::JsonObject();
    if (const auto error = CheckParameters(type.parameters, *parameters)) {
      const std::string path = error->PathText();
      return Invalid(fmt::format("{}: parameters{}{}: {}", where, path.empty() ? "" : ".", path,
                                 error->message));
    }
    if (!type.create) continue;
    auto created = type.create({*parameters, plugin.name, 0, *options.clock,
                                [](std::string_view) -> Plugin* { return nullptr; }});
    if (!created) return Fail(created.error(), "failed to create " + where);
    if (type.role == Role::kHandler) {
      handler = static_cast<ProfileHandler*>(created->get());
      handler_name = plugin.name;
    }
    impl->plugins.emplace(plugin.name, std::move(*created));
  }

  std::vector<std::string> profile_names;
  for (const ProfileSpec& profile : spec.profiles) profile_names.push_back(profile.name);
  if (const Status accepted = handler->Accept(profile_names); !accepted) {
    return Fail(accepted.error(), fmt::format("plugin '{}'", handler_name));
  }
  const ProfileSpec& profile = spec.profiles[handler->Primary()];
  impl->profile = profile.name;
  for (const ProfilePlugin& entry : profile.plugins) {
    const PluginSpec& plugin = *FindSpec(spec, entry.plugin);
    Plugin* instance = impl->plugins.at(entry.plugin).get();
    switch (FindPluginType(plugin.type)->role) {
      case Role::kFilter:
        impl->filters.push_back({entry.plugin, static_cast<Filter*>(instance)});
        break;
      case Role::kScorer: {
        auto* scorer = static_cast<Scorer*>(instance);
        impl->scorers.push_back({entry.plugin, entry.weight, scorer});
        impl->scorer_list.push_back(entry);
        if (impl->prefix_scorer.empty() && scorer->about_prefixes()) {
          impl->prefix_scorer = plugin.type + "/" + plugin.name;
        }
        break;
      }
      case Role::kPicker:
        impl->picker = static_cast<Picker*>(instance);
        impl->picker_name = entry.plugin;
        break;
      case Role::kHandler:
      case Role::kProducer:
      case Role::kDetector:
      case Role::kPassive:
        break;
    }
  }
  return std::unique_ptr<Scheduler>(new Scheduler(std::move(impl)));
}

Decision Scheduler::Impl::Run(const Request& request) const {
  const size_t n = request.candidates.size();
  Decision decision;
  decision.profile = profile;
  decision.picker = picker_name;
  decision.filtered_by.assign(n, "");
  decision.totals.assign(n, kNone);

  std::vector<size_t> left;
  for (size_t i = 0; i < n; ++i) left.push_back(i);
  for (const NamedFilter& filter : filters) {
    const std::vector<size_t> before = left;
    filter.filter->Narrow(request, left, seed + draws.fetch_add(1, std::memory_order_relaxed));
    for (const size_t i : before) {
      if (std::find(left.begin(), left.end(), i) == left.end())
        decision.filtered_by[i] = filter.name;
    }
  }

  std::vector<double> totals(left.size(), 0.0);
  for (const WeightedScorer& scorer : scorers) {
    PluginScore& row = decision.scores.emplace_back();
    row.plugin = scorer.name;
    row.weight = scorer.weight;
    row.scores.assign(n, kNone);
    if (left.empty()) continue;
    const std::vector<double> scores = scorer.scorer->Score(request, left, decision.notes);
    for (size_t i = 0; i < left.size(); ++i) {
      const double score =
          i < scores.size() && std::isfinite(scores[i]) ? std::clamp(scores[i], 0.0, 1.0) : 0.0;
      row.scores[left[i]] = score;
      totals[i] += score * scorer.weight;
    }
  }
  for (size_t i = 0; i < left.size(); ++i) decision.totals[left[i]] = totals[i];
  if (!left.empty()) {
    const uint64_t draw = draws.fetch_add(1, std::memory_order_relaxed);
    decision.picked = picker->Pick(left, totals, seed + draw * 0x9e3779b97f4a7c15ULL);
  }
  return decision;
}

Decision Scheduler::Schedule(Request& request) const {
  Decision decision = impl_->Run(request);
  if (!decision.picked.empty()) {
    const Candidate& picked = request.candidates[decision.picked.front()];
    for (const auto& [name, plugin] : impl_->plugins)
      plugin->Picked(request, picked, decision.effects);
  }
  return decision;
}

Decision Scheduler::DryRun(Request& request) const {
  return impl_->Run(request);
}

double Scheduler::Saturation(const Request&) const {
  return 0;
}
bool Scheduler::wants_estimated_tokens() const {
  return false;
}

void Scheduler::Observe(const Observation& observation) const {
  for (const auto& [name, plugin] : impl_->plugins) plugin->Observe(observation);
}

const std::vector<ProfilePlugin>& Scheduler::scorers() const {
  return impl_->scorer_list;
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
