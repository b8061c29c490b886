// docs/llm-d-compatibility.md: what of llm-d's endpoint picker works here, from the registry of
// plugins and the tables of flags and metrics. Pure functions.
#pragma once

#include <span>
#include <string>

namespace warmpath::config {

// States in use: "works", "works differently", "accepted, no effect", "refused", and for metrics
// "absent".
struct CompatibilityRow {
  std::string name;
  std::string state;
  std::string note{};
};

// The whole page. An empty table leaves its section out.
std::string CompatibilityMarkdown(std::span<const CompatibilityRow> flags,
                                  std::span<const CompatibilityRow> metrics);

// The sections about the configuration file and its plugins, which that page contains as they are.
std::string PluginCompatibilityMarkdown();

}  // namespace warmpath::config
