// Texts several plugins read off a request or an endpoint. Pure functions.
#pragma once

#include <string>
#include <string_view>

#include "scheduling/types.h"

namespace warmpath::scheduling {

// The first header of that name, trimmed; "" when absent.
std::string_view HeaderOf(const Request& request, std::string_view name);
// "ip:port", "[::1]:port"; a name only as long as it is not resolved.
std::string HostPortOf(const fleet::Endpoint& endpoint, uint16_t port);
// "namespace/name"; the namespace is "default" where the name carries none.
std::string NamespacedNameOf(const fleet::Endpoint& endpoint);

}  // namespace warmpath::scheduling
