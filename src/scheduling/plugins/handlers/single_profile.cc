// single-profile-handler: the one profile decides.
#include <fmt/format.h>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

class SingleProfileHandler final : public ProfileHandler {
 public:
  Status Accept(std::span<const std::string> profiles) const override {
    if (profiles.size() == 1) return {};
    return Fail(
        Code::kInvalidArgument,
        fmt::format("single-profile-handler runs exactly one scheduling profile, {} are configured",
                    profiles.size()));
  }
  size_t Primary() const override { return 0; }
};

}  // namespace

std::vector<PluginType> HandlerTypes() {
  PluginType type{"single-profile-handler", Role::kHandler, {}, {}, {}};
  type.create = [](const PluginContext&) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<SingleProfileHandler>();
  };
  return {type};
}

}  // namespace warmpath::scheduling
