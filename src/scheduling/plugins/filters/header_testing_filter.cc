// header-based-testing-filter: for conformance tests, keeps the endpoints ("ip" or "ip:port") that
// the request's header test-epp-endpoint-selection lists; without the header all.
#include <algorithm>

#include "base/units.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/request_text.h"

namespace warmpath::scheduling {
namespace {

class HeaderTestingFilter final : public Filter {
 public:
  void Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const override {
    const std::string_view wanted = HeaderOf(request, "test-epp-endpoint-selection");
    if (wanted.empty()) return;
    const std::vector<std::string_view> entries = Split(wanted, ',');
    std::erase_if(candidates, [&](size_t i) {
      const fleet::Endpoint& endpoint = *request.candidates[i].endpoint;
      const std::string address = HostPortOf(endpoint, endpoint.spec.url.address.port);
      return std::none_of(entries.begin(), entries.end(), [&](std::string_view entry) {
        return Trim(entry) == endpoint.spec.url.address.host || Trim(entry) == address;
      });
    });
  }
};

}  // namespace

std::vector<PluginType> HeaderTestingTypes() {
  PluginType type{"header-based-testing-filter", Role::kFilter, {}, {}, {}};
  type.note = "for conformance tests: clients choose the endpoint";
  type.create = [](const PluginContext&) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<HeaderTestingFilter>();
  };
  return {type};
}

}  // namespace warmpath::scheduling
