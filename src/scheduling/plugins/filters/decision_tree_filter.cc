// decision-tree-filter, of the first generation: `current` runs; a result goes on to
// nextOnSuccess, an empty one lets nextOnFailure run on the input, nextOnSuccessOrFailure stands
// for either; without a next the result stands.
#include <fmt/format.h>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

constexpr size_t kMaxDepth = 32;
constexpr const char* kSteps[] = {"current", "nextOnSuccess", "nextOnFailure",
                                  "nextOnSuccessOrFailure"};

class DecisionTreeFilter final : public Filter {
 public:
  static Result<std::unique_ptr<DecisionTreeFilter>> Create(const PluginContext& context,
                                                            const codec::Json& parameters,
                                                            size_t depth) {
    if (depth > kMaxDepth) {
      return Fail(Code::kInvalidArgument,
                  fmt::format("decisionTree: nested more than {} deep", kMaxDepth));
    }
    auto tree = std::make_unique<DecisionTreeFilter>();
    for (size_t i = 0; i < std::size(kSteps); ++i) {
      WP_TRY(tree->steps_[i], tree->StepOf(context, parameters, kSteps[i], depth));
    }
    if (tree->steps_[0] == nullptr) return Fail(Code::kInvalidArgument, "current: is missing");
    return tree;
  }

  void Narrow(const Request& request, std::vector<size_t>& candidates,
              uint64_t random) const override {
    std::vector<size_t> result = candidates;
    steps_[0]->Narrow(request, result, random);
    const bool success = !result.empty();
    const Filter* next = success ? steps_[1] : steps_[2];
    if (next == nullptr) next = steps_[3];
    if (success) candidates = std::move(result);
    if (next != nullptr) {
      next->Narrow(request, candidates, random * 0x9e3779b97f4a7c15ULL + 1);
    } else if (!success) {
      candidates.clear();
    }
  }

 private:
  // nullptr: not given.
  Result<const Filter*> StepOf(const PluginContext& context, const codec::Json& parameters,
                               const char* name, size_t depth) {
    const codec::Json* step = Parameter(parameters, name);
    if (step == nullptr) return nullptr;
    const auto fail = [&](std::string what) {
      return Fail(Code::kInvalidArgument, fmt::format("{}: {}", name, what));
    };
    if (!step->is_object()) return fail("must be a map");
    for (const auto& [key, value] : step->get_object()) {
      if (key != "pluginRef" && key != "decisionTree") {
        return fail(fmt::format("'{}' is unknown; allowed: pluginRef, decisionTree",
                                std::string_view(key)));
      }
    }
    const std::string reference = StringParameter(*step, "pluginRef", "");
    const codec::Json* nested = Parameter(*step, "decisionTree");
    if (reference.empty() == (nested == nullptr)) {
      return fail("needs either a pluginRef or a decisionTree");
    }
    if (nested != nullptr) {
      auto tree = Create(context, *nested, depth + 1);
      if (!tree) return Fail(tree.error(), name);
      return nested_.emplace_back(std::move(*tree)).get();
    }
    const auto* filter = dynamic_cast<Filter*>(context.find(reference));
    if (filter == nullptr) return fail(fmt::format("'{}' is no filter", reference));
    return filter;
  }

  const Filter* steps_[std::size(kSteps)] = {};
  std::vector<std::unique_ptr<Filter>> nested_;
};

void CollectReferences(const codec::Json& tree, size_t depth, std::vector<std::string>& names) {
  if (depth > kMaxDepth) return;
  for (const char* name : kSteps) {
    const codec::Json* step = Parameter(tree, name);
    if (step == nullptr) continue;
    if (std::string reference = StringParameter(*step, "pluginRef", ""); !reference.empty()) {
      names.push_back(std::move(reference));
    }
    if (const codec::Json* nested = Parameter(*step, "decisionTree")) {
      CollectReferences(*nested, depth + 1, names);
    }
  }
}

}  // namespace

std::vector<PluginType> DecisionTreeTypes() {
  PluginType type{"decision-tree-filter", Role::kFilter, {}, {}, {}};
  for (const char* step : kSteps) type.parameters.push_back(Any(step));
  type.note = "deprecated: of the first generation";
  type.references = [](const codec::Json& parameters) {
    std::vector<std::string> names;
    CollectReferences(parameters, 0, names);
    return names;
  };
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return DecisionTreeFilter::Create(context, context.parameters, 0);
  };
  return {type};
}

}  // namespace warmpath::scheduling
