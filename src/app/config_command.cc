// `warmpath config check FILE...` and `warmpath config compatibility`.
#include <fmt/format.h>

#include <algorithm>

#include "app/commands.h"
#include "app/process.h"
#include "config/endpoint_picker_config.h"
#include "routing/metric_names.h"
#include "scheduling/scheduler.h"

namespace warmpath::app {

int RunConfigCheck(const std::vector<std::string>& files, bool allow_experimental) {
  int exit_code = kExitOk;
  for (const std::string& file : files) {
    const auto config = config::LoadConfigFile(file, {allow_experimental});
    if (!config) {
      exit_code = std::max(exit_code, ReportError(config.error()));
      continue;
    }
    if (const auto scheduler =
            scheduling::Scheduler::Create(config->scheduler, {allow_experimental});
        !scheduler) {
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

int RunCompatibility(const std::vector<config::CompatibilityRow>& flags) {
  std::vector<config::CompatibilityRow> metrics;
  for (const routing::MetricName& metric : routing::MetricNames()) {
    metrics.push_back({std::string(metric.name), metric.emitted() ? "emitted" : "absent",
                       std::string(metric.absent)});
  }
  fmt::print("{}", config::CompatibilityMarkdown(flags, metrics));
  return kExitOk;
}

}  // namespace warmpath::app
