// An engine's page read as every kind of engine, and (its first line) as the name of a series: load
// within its bounds; a series that was understood is understood again as written.
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "fleet/scrape.h"

namespace {

using namespace warmpath;

const fleet::LoadReader& ReaderOf(size_t engine) {
  static const auto* readers = [] {
    auto* all = new std::deque<fleet::LoadReader>;
    for (fleet::EngineMetrics metrics : fleet::BuiltInEngines()) {
      metrics.custom["any"] = {"up", {}};
      all->emplace_back(std::vector{metrics});
    }
    all->emplace_back(fleet::BuiltInEngines());
    return all;
  }();
  return (*readers)[engine % readers->size()];
}

void CheckSpec(std::string_view text) {
  const auto spec = fleet::ParseMetricSpec(text);
  if (!spec || spec->name.empty()) return;
  WP_CHECK(spec->labels.size() <= fleet::kMaxMetricSpecLabels);
  std::string again = spec->name + "{";
  for (const auto& [key, value] : spec->labels) {
    again += key + "=\"";
    for (const char c : value) {
      if (c == '"' || c == '\\') again += '\\';
      again += c;
    }
    again += "\",";
  }
  const auto second = fleet::ParseMetricSpec(again + "}");
  if (again.size() >= fleet::kMaxMetricSpecBytes) return;
  WP_CHECK(second.has_value() && second->name == spec->name && second->labels == spec->labels);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckSpec(text.substr(0, text.find('\n')));
  for (size_t engine = 0; engine <= fleet::BuiltInEngines().size(); ++engine) {
    const auto load = ReaderOf(engine).Read(text);
    if (!load) {
      WP_CHECK(load.error().code == Code::kUnsupported);
      continue;
    }
    WP_CHECK(load->running >= 0 && load->waiting >= 0);
    WP_CHECK(load->kv_usage >= 0 && load->kv_usage <= 1);
    WP_CHECK(load->block_size <= 1 << 20);
    WP_CHECK(load->active_adapters.size() <= fleet::kMaxAdaptersListed);
    WP_CHECK(load->waiting_adapters.size() <= fleet::kMaxAdaptersListed);
  }
  return 0;
}
