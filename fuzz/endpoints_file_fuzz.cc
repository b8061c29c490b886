// Any text as an endpoints file: an error of one line that says where, or endpoints that can be
// told apart and dialled.
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "base/check.h"
#include "fleet/endpoints_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto specs = fleet::ParseEndpointsFile(text, "fuzz", {5557, 5657});
  if (!specs) {
    WP_CHECK(specs.error().message.starts_with("fuzz:"));
    WP_CHECK(specs.error().message.find('\n') == std::string::npos);
    return 0;
  }
  std::set<std::string> names;
  for (const fleet::EndpointSpec& spec : *specs) {
    WP_CHECK(!spec.name.empty() && names.insert(spec.ns + "\n" + spec.name).second);
    WP_CHECK(net::ParseUrl(spec.url.ToString()).has_value());
    WP_CHECK(spec.url.address.port != 0 && spec.data_parallel != 0);
  }
  return 0;
}
