#include "sidecar/control_headers.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"
#include "base/units.h"

namespace warmpath::sidecar {

std::string_view DisaggregationHeader(const net::Headers& headers) {
  static constexpr std::string_view kNames[] = {"x-prefiller-host-port", "x-prefiller-url",
                                                "x-encoder-hosts-ports",
                                                "x-kv-cache-source-host-port"};
  for (const std::string_view name : kNames) {
    for (const auto& [key, value] : headers) {
      if (EqualsIgnoreCase(key, name) && !Trim(value).empty()) return name;
    }
  }
  return {};
}

net::Headers EndToEnd(net::Headers headers) {
  net::RemoveHopByHop(headers);
  headers.Remove("Expect");
  return headers;
}

std::string UpgradeOf(const net::Headers& headers) {
  const std::string_view wanted = Trim(headers.Get("Upgrade").value_or(""));
  if (wanted.empty() || EqualsIgnoreCase(wanted, "h2c")) return {};
  for (const auto& [name, value] : headers) {
    if (!EqualsIgnoreCase(name, "Connection")) continue;
    for (const std::string_view token : Split(value, ',')) {
      if (EqualsIgnoreCase(Trim(token), "upgrade")) return std::string(wanted);
    }
  }
  return {};
}

std::string ErrorBody(int status, std::string_view message, std::string_view code) {
  const char* type = status >= 500 ? "server_error" : "invalid_request_error";
  return fmt::format(R"({{"error":{{"message":{},"type":"{}","param":null,"code":{}}}}})",
                     JsonQuote(message), type, JsonQuote(code));
}

}  // namespace warmpath::sidecar
