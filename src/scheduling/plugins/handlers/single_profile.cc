// single-profile-handler: the one profile decides. data-parallel-profile-handler {primaryPort}: the
// same for pods whose data-parallel ranks are endpoints of their own behind one sidecar: the pick
// goes into x-data-parallel-host-port, the request to the pod's primary port.
#include <fmt/format.h>

#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/request_text.h"

namespace warmpath::scheduling {
namespace {

class SingleProfileHandler : public ProfileHandler {
 public:
  explicit SingleProfileHandler(std::string type) : type_(std::move(type)) {}
  Status Accept(std::span<const std::string> profiles) const override {
    if (profiles.size() == 1) return {};
    return Fail(Code::kInvalidArgument,
                fmt::format("{} runs exactly one scheduling profile, {} are configured", type_,
                            profiles.size()));
  }
  size_t Primary() const override { return 0; }

 private:
  const std::string type_;
};

class DataParallelHandler final : public SingleProfileHandler {
 public:
  explicit DataParallelHandler(const PluginContext& context)
      : SingleProfileHandler(context.type),
        primary_port_(
            static_cast<uint16_t>(NumberParameter(context.parameters, "primaryPort", 8000))) {}
  void Picked(const Request&, const Candidate& picked, PickEffects& effects) override {
    const fleet::Endpoint& endpoint = *picked.endpoint;
    effects.request_headers.emplace_back(kHeader,
                                         HostPortOf(endpoint, endpoint.spec.url.address.port));
    effects.destination = HostPortOf(endpoint, primary_port_);
  }

 private:
  static constexpr const char* kHeader = "x-data-parallel-host-port";
  const uint16_t primary_port_;
};

}  // namespace

std::vector<PluginType> HandlerTypes() {
  PluginType type{"single-profile-handler", Role::kHandler, {}, {}, {}};
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<SingleProfileHandler>(context.type);
  };
  PluginType parallel{"data-parallel-profile-handler", Role::kHandler, {}, {}, {}};
  ParameterSchema port = Integer("primaryPort", 1);
  port.max = 65'535;
  parallel.parameters = {port};
  parallel.note = "deprecated: ranks behind one address are pinned by X-data-parallel-rank";
  parallel.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<DataParallelHandler>(context);
  };
  return {type, parallel};
}

}  // namespace warmpath::scheduling
