// Filters by endpoint labels: decode-filter, prefill-filter, encode-filter, by-label,
// label-selector-filter (by-label-selector).
#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "scheduling/plugins/attributes.h"
#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

// The label as Kubernetes carries it, or its short form as a flag gives it (label.role=decode).
constexpr std::string_view kRoleLabel = "llm-d.ai/role";
constexpr std::string_view kShortRoleLabel = "role";

class RoleFilter final : public Filter {
 public:
  RoleFilter(std::vector<std::string> roles, bool without_label)
      : roles_(std::move(roles)), without_label_(without_label) {}
  bool Keep(const Request&, const Candidate& candidate) const override {
    const std::string* role = FindLabel(candidate, kRoleLabel);
    if (role == nullptr) role = FindLabel(candidate, kShortRoleLabel);
    if (role == nullptr) return without_label_;
    return std::find(roles_.begin(), roles_.end(), *role) != roles_.end();
  }

 private:
  const std::vector<std::string> roles_;
  const bool without_label_;
};

class ByLabelFilter final : public Filter {
 public:
  explicit ByLabelFilter(const codec::Json& parameters)
      : label_(StringParameter(parameters, "label", "")),
        without_label_(BoolParameter(parameters, "allowsNoLabel", false)) {
    if (const codec::Json* values = Parameter(parameters, "validValues")) {
      for (const auto& value : values->get_array()) values_.emplace_back(value.get_string());
    }
  }
  bool Keep(const Request&, const Candidate& candidate) const override {
    const std::string* value = FindLabel(candidate, label_);
    if (value == nullptr) return without_label_;
    return std::find(values_.begin(), values_.end(), *value) != values_.end();
  }

 private:
  const std::string label_;
  const bool without_label_;
  std::vector<std::string> values_;
};

// A Kubernetes label selector: all of matchLabels and matchExpressions.
class SelectorFilter final : public Filter {
 public:
  // "" or what the selector lacks.
  static std::string Check(const codec::Json& parameters) {
    const codec::Json* expressions = Parameter(parameters, "matchExpressions");
    if (expressions == nullptr) return {};
    size_t i = 0;
    for (const auto& expression : expressions->get_array()) {
      const std::string operation = StringParameter(expression, "operator", "");
      const codec::Json* values = Parameter(expression, "values");
      const bool has_values = values != nullptr && !values->get_array().empty();
      const bool needs_values = operation == "In" || operation == "NotIn";
      if (has_values != needs_values) {
        return fmt::format("matchExpressions[{}].values: {} {}", i, operation,
                           needs_values ? "needs values" : "takes no values");
      }
      ++i;
    }
    return {};
  }
  explicit SelectorFilter(const codec::Json& parameters) {
    if (const codec::Json* labels = Parameter(parameters, "matchLabels"); labels != nullptr) {
      for (const auto& [key, value] : labels->get_object()) {
        terms_.push_back({std::string(key), "In", {std::string(value.get_string())}});
      }
    }
    const codec::Json* expressions = Parameter(parameters, "matchExpressions");
    if (expressions == nullptr) return;
    for (const auto& expression : expressions->get_array()) {
      Term term{
          StringParameter(expression, "key", ""), StringParameter(expression, "operator", ""), {}};
      if (const codec::Json* values = Parameter(expression, "values")) {
        for (const auto& value : values->get_array()) term.values.emplace_back(value.get_string());
      }
      terms_.push_back(std::move(term));
    }
  }
  bool Keep(const Request&, const Candidate& candidate) const override {
    return std::all_of(terms_.begin(), terms_.end(), [&](const Term& term) {
      const std::string* value = FindLabel(candidate, term.key);
      const bool listed = value != nullptr && std::find(term.values.begin(), term.values.end(),
                                                        *value) != term.values.end();
      if (term.operation == "In") return listed;
      if (term.operation == "NotIn") return !listed;
      return (value != nullptr) == (term.operation == "Exists");
    });
  }

 private:
  struct Term {
    std::string key;
    std::string operation;
    std::vector<std::string> values;
  };
  std::vector<Term> terms_;
};

PluginType RoleType(std::string name, std::vector<std::string> roles, bool without_label) {
  PluginType type{std::move(name), Role::kFilter, {}, {}, {}};
  type.create = [roles, without_label](const PluginContext&) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<RoleFilter>(roles, without_label);
  };
  return type;
}

template <typename T>
PluginType FilterType(std::string name, ParameterList parameters, std::string note) {
  PluginType type{std::move(name), Role::kFilter, std::move(parameters), {}, std::move(note)};
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<T>(context.parameters);
  };
  return type;
}

ParameterSchema Strings(std::string name) {
  return List(std::move(name), String(""));
}

PluginType SelectorType(std::string name) {
  PluginType type = FilterType<SelectorFilter>(
      std::move(name),
      {StringMap("matchLabels"),
       List("matchExpressions",
            Object("", {Required(String("key")),
                        Required(String("operator", {"In", "NotIn", "Exists", "DoesNotExist"})),
                        Strings("values")}))},
      "");
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    std::string wrong = SelectorFilter::Check(context.parameters);
    if (!wrong.empty()) return Fail(Code::kInvalidArgument, std::move(wrong));
    return std::make_unique<SelectorFilter>(context.parameters);
  };
  return type;
}

}  // namespace

std::vector<PluginType> LabelFilterTypes() {
  return {
      RoleType("decode-filter", {"decode", "prefill-decode", "both", "encode-prefill-decode"},
               true),
      RoleType("prefill-filter",
               {"prefill", "encode-prefill", "prefill-decode", "both", "encode-prefill-decode"},
               false),
      RoleType("encode-filter", {"encode", "encode-prefill", "encode-prefill-decode"}, false),
      FilterType<ByLabelFilter>(
          "by-label", {Required(String("label")), Strings("validValues"), Bool("allowsNoLabel")},
          "deprecated: use label-selector-filter"),
      SelectorType("label-selector-filter"),
      SelectorType("by-label-selector"),
  };
}

}  // namespace warmpath::scheduling
