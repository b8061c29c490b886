// What a scheduling plugin is. A profile runs its filters, then its scorers, then its picker, over
// indexes into Request::candidates. Plugins are shared by all threads: Filter, Score and Pick may
// run concurrently, and never block. A type may be several things at once (a filter that scores):
// what an instance can do is asked of it by dynamic_cast, hence the virtual inheritance.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/metrics.h"
#include "base/result.h"
#include "codec/json.h"
#include "scheduling/parameters.h"
#include "scheduling/types.h"

namespace warmpath::scheduling {

struct Observation;

class Plugin {
 public:
  virtual ~Plugin() = default;
  // A request goes to `picked` (not called for dry runs).
  virtual void Picked(const Request& request, const Candidate& picked, PickEffects& effects);
  // A response taught something.
  virtual void Observe(const Observation& observation);
  // It looks at Request::prompts even where only pseudo tokens can be had.
  virtual bool wants_estimated_tokens() const;
};

// Adds to the request before the profile runs: Candidate::produced and Request::produced in its
// slot, or another field.
class Producer : public virtual Plugin {
 public:
  virtual void Produce(Request& request) const = 0;
};

// Override one of the two: Keep judges candidates one by one, Narrow the set.
class Filter : public virtual Plugin {
 public:
  virtual bool Keep(const Request& request, const Candidate& candidate) const;
  // Removes from `candidates` (indexes into Request::candidates, order kept) what may not be
  // picked. `random` is a fresh 64-bit draw.
  virtual void Narrow(const Request& request, std::vector<size_t>& candidates,
                      uint64_t random) const;
};

// How loaded the candidates are together: 1 and more is saturated. Usable as a filter too.
class Detector : public Filter {
 public:
  virtual double Saturation(std::span<const Candidate> candidates) const = 0;
};

class Scorer : public virtual Plugin {
 public:
  // Writes one score per entry of `candidates` into `scores` (as long, all 0), higher is better;
  // the scheduler clamps to 0..1 and takes NaN as 0. `notes` collects what could not be used.
  virtual void Score(const Request& request, std::span<const size_t> candidates,
                     std::span<double> scores, std::vector<std::string>& notes) const = 0;
  // Its scores are about cached prefixes ("Got pod scores" is logged in its name).
  virtual bool about_prefixes() const;
};

class Picker : public virtual Plugin {
 public:
  // Appends some of `candidates` to `picked`, best first. `totals` belongs to them entry by entry;
  // `random` is a fresh 64-bit draw.
  virtual void Pick(std::span<const size_t> candidates, std::span<const double> totals,
                    uint64_t random, std::vector<size_t>& picked) const = 0;
};

class ProfileHandler : public virtual Plugin {
 public:
  // Whether it can run these profiles.
  virtual Status Accept(std::span<const std::string> profiles) const = 0;
  // The profile whose result is the decision.
  virtual size_t Primary() const = 0;
};

enum class Role {
  kFilter,
  kScorer,
  kPicker,
  kHandler,
  kProducer,
  kDetector,
  kPassive,  // configures another part of the program (producers, parsers, sources)
};

// What a plugin is made from. Valid during creation only.
struct PluginContext {
  const codec::Json& parameters;  // checked against the type's schema
  std::string name;               // of the instance
  size_t slot = 0;                // of a producer in Candidate::produced and Request::produced
  const Clock& clock;
  // The instance of that name, made before this one because PluginType::references named it;
  // nullptr: not configured, or a passive type. "" (kDefaultPrefixProducer): prefix_source.h.
  std::function<Plugin*(std::string_view name)> find;
  std::string type{};
  bool by_default = false;      // made because others need it, not because it was configured
  Registry* metrics = nullptr;  // null: none
  // The longest pause between two scrapes of an endpoint that answers.
  Duration scrape_interval{};
};

struct PluginType {
  std::string name;
  Role role = Role::kPassive;
  ParameterList parameters;
  // null for passive types.
  std::function<Result<std::unique_ptr<Plugin>>(const PluginContext& context)> create;
  std::string note;  // for people who configure it: deprecated, or what it does differently here
  // Not empty: llm-d has this type, this program does not, and why.
  std::string refused{};
  bool experimental = false;  // needs --allow-experimental-plugins (llm-d's stability "Alpha")
  // Names of the plugins these parameters refer to; they are made first. Null: none.
  std::function<std::vector<std::string>(const codec::Json& parameters)> references{};
};

// All types by name, aliases included. nullptr when unknown.
const PluginType* FindPluginType(std::string_view name);
std::vector<std::string> PluginTypeNames(Role role);  // without the refused ones
// In order of their names, aliases and refused types included.
std::vector<const PluginType*> AllPluginTypes();

// For PluginType::references: the string values of these parameters, where they are given.
std::function<std::vector<std::string>(const codec::Json&)> ReferencesIn(
    std::vector<std::string> parameters);

}  // namespace warmpath::scheduling
