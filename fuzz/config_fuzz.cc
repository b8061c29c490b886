// EndpointPickerConfig text of any kind: an error of one line, or a specification that a scheduler
// accepts.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "config/endpoint_picker_config.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = warmpath::config::LoadConfigText(text, "fuzz");
  if (!config) {
    WP_CHECK(config.error().message.starts_with("fuzz:"));
    WP_CHECK(config.error().message.find('\n') == std::string::npos);
  } else {
    WP_CHECK(warmpath::scheduling::Scheduler::Create(config->scheduler).has_value());
  }
  return 0;
}
