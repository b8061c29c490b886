// Configuration text of any kind. An EndpointPickerConfig: an error of one line, or a specification
// that a scheduler accepts. Policies: an error of one line, or targets that can be drawn from.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "config/endpoint_picker_config.h"
#include "config/policy_file.h"

namespace {

void CheckError(const warmpath::Error& error) {
  WP_CHECK(error.message.starts_with("fuzz:"));
  WP_CHECK(error.message.find('\n') == std::string::npos);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const warmpath::config::LoadOptions options{.allow_experimental = true};
  const auto config = warmpath::config::LoadConfigText(text, "fuzz", options);
  if (!config) {
    CheckError(config.error());
  } else {
    warmpath::scheduling::SchedulerOptions scheduler_options;
    scheduler_options.allow_experimental = true;
    WP_CHECK(
        warmpath::scheduling::Scheduler::Create(config->scheduler, scheduler_options).has_value());
    for (const std::string& warning : config->warnings)
      WP_CHECK(warning.find('\n') == std::string::npos);
  }
  const auto policies = warmpath::config::LoadPolicyText(text, "fuzz");
  if (!policies) {
    CheckError(policies.error());
    return 0;
  }
  for (const auto& rewrite : policies->rewrites) {
    for (const auto& rule : rewrite.rules) {
      for (const auto& target : rule.targets)
        WP_CHECK(target.weight >= 1 && target.weight <= 1'000'000 && !target.model.empty());
    }
  }
  return 0;
}
