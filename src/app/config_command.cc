// `warmpath config check FILE...`
#include <fmt/format.h>

#include <algorithm>

#include "app/commands.h"
#include "app/process.h"
#include "config/endpoint_picker_config.h"
#include "scheduling/scheduler.h"

namespace warmpath::app {

int RunConfigCheck(const std::vector<std::string>& files) {
  int exit_code = kExitOk;
  for (const std::string& file : files) {
    const auto config = config::LoadConfigFile(file);
    if (!config) {
      exit_code = std::max(exit_code, ReportError(config.error()));
      continue;
    }
    if (const auto scheduler = scheduling::Scheduler::Create(config->scheduler); !scheduler) {
      exit_code = ReportError({Code::kInvalidArgument, file + ": " + scheduler.error().message});
      continue;
    }
    fmt::print("{}: ok\n", file);
    for (const auto& profile : config->scheduler.profiles) {
      fmt::print("  profile {}:", profile.name);
      for (const auto& plugin : profile.plugins)
        fmt::print(" {}({})", plugin.plugin, plugin.weight);
      fmt::print("\n");
    }
    for (const std::string& warning : config->warnings) fmt::print("  note: {}\n", warning);
  }
  return exit_code;
}

}  // namespace warmpath::app
