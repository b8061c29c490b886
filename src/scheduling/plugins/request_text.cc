#include "scheduling/plugins/request_text.h"

#include <fmt/format.h>

#include "base/units.h"

namespace warmpath::scheduling {

std::string_view HeaderOf(const Request& request, std::string_view name) {
  if (request.headers == nullptr) return "";
  for (const auto& [key, value] : request.headers->fields()) {
    if (EqualsIgnoreCase(key, name)) return Trim(value);
  }
  return "";
}

std::string HostPortOf(const fleet::Endpoint& endpoint, uint16_t port) {
  const std::string& host = endpoint.spec.url.address.host;
  return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                             : fmt::format("[{}]:{}", host, port);
}

std::string NamespacedNameOf(const fleet::Endpoint& endpoint) {
  const std::string& name = endpoint.name();
  return name.find('/') == std::string::npos ? "default/" + name : name;
}

}  // namespace warmpath::scheduling
