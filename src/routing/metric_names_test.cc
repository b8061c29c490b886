#include "routing/metric_names.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace warmpath::routing {
namespace {

std::string Sources() {
  std::ostringstream text;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(WARMPATH_SOURCE "/src")) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with(".cc") || name.ends_with("_test.cc") || name == "metric_names.cc") continue;
    text << std::ifstream(entry.path()).rdbuf();
  }
  return text.str();
}

// Families whose names are put together from a prefix and a part.
bool Declares(const std::string& sources, const std::string& name) {
  if (sources.find('"' + name + '"') != std::string::npos) return true;
  for (const std::string_view prefix : {"llm_d_epp_average_", "llm_d_epp_std_dev_",
                                        "llm_d_epp_kv_cache_events_", "llm_d_epp_extproc_"}) {
    if (name.starts_with(prefix) &&
        sources.find('"' + name.substr(prefix.size()) + '"') != std::string::npos) {
      return true;
    }
  }
  return false;
}

TEST(MetricNames, EachIsEitherDeclaredSomewhereOrAbsentForAReason) {
  const std::string sources = Sources();
  std::set<std::string_view> seen;
  for (const MetricName& metric : MetricNames()) {
    EXPECT_TRUE(metric.name.starts_with("llm_d_epp_")) << metric.name;
    EXPECT_TRUE(seen.insert(metric.name).second) << metric.name << " is listed twice";
    EXPECT_EQ(Declares(sources, std::string(metric.name)), metric.emitted()) << metric.name;
  }
  EXPECT_EQ(seen.size(), 88u) << "llm-d documents so many";
}

TEST(MetricNames, NoSourceDeclaresANameThatIsNotListed) {
  const std::string sources = Sources();
  std::set<std::string_view> listed;
  for (const MetricName& metric : MetricNames()) listed.insert(metric.name);
  const std::string start = "\"llm_d_epp_";
  for (size_t at = sources.find(start); at != std::string::npos; at = sources.find(start, at + 1)) {
    const std::string name = sources.substr(at + 1, sources.find('"', at + 1) - at - 1);
    const bool whole =
        name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_") == std::string::npos &&
        !name.ends_with('_');
    if (!whole) continue;  // a prefix, or prose
    EXPECT_TRUE(listed.contains(name)) << name;
  }
}

TEST(MetricNames, OldNamesStandForEmittedOnesAndAreRendered) {
  std::set<std::string_view> emitted;
  for (const MetricName& metric : MetricNames()) {
    if (metric.emitted()) emitted.insert(metric.name);
  }
  std::set<std::string_view> seen;
  for (const DeprecatedName& twin : DeprecatedNames()) {
    EXPECT_TRUE(emitted.contains(twin.name)) << twin.old_name;
    EXPECT_TRUE(seen.insert(twin.old_name).second) << twin.old_name;
  }
  Registry registry;
  AddDeprecatedNames(registry);
  registry
      .AddCounter("llm_d_epp_scheduler_attempts_total", "Help.",
                  {{"status", "success"},
                   {"target_model_name", "m"},
                   {"endpoint_name", "a"},
                   {"namespace", "default"},
                   {"port", "8000"}})
      .Add();
  EXPECT_NE(registry.Render().find(
                "inference_extension_scheduler_attempts_total{status=\"success\",target_model_name="
                "\"m\",pod_name=\"a\",namespace=\"default\",port=\"8000\"} 1"),
            std::string::npos)
      << registry.Render();
}

}  // namespace
}  // namespace warmpath::routing
