#include "scheduling/plugins/request_text.h"

#include <utility>

#include "base/units.h"
#include "net/address.h"

namespace warmpath::scheduling {

std::string_view HeaderOf(const Request& request, std::string_view name) {
  if (request.headers == nullptr) return "";
  for (const auto& [key, value] : request.headers->fields()) {
    if (EqualsIgnoreCase(key, name)) return Trim(value);
  }
  return "";
}

std::string HostPortOf(const fleet::Endpoint& endpoint, uint16_t port) {
  net::HostPort address = endpoint.spec.url.address;
  if (auto resolved = net::ParseHostPort(endpoint.resolved)) address = std::move(*resolved);
  address.port = port;
  return address.ToString();
}

std::string NamespacedNameOf(const fleet::Endpoint& endpoint) {
  const std::string& name = endpoint.name();
  return name.find('/') == std::string::npos ? "default/" + name : name;
}

}  // namespace warmpath::scheduling
