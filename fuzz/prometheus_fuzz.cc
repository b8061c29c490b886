// Prometheus text: every line is a sample, a comment or counted as bad.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "codec/prometheus_text.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath;
  uint64_t samples = 0;
  const auto stats = codec::ReadPrometheusText({reinterpret_cast<const char*>(data), size},
                                               [&](const codec::PromSample& sample) {
                                                 ++samples;
                                                 WP_CHECK(!sample.name.empty());
                                                 (void)sample.Label("le");
                                               });
  WP_CHECK(stats.has_value());
  WP_CHECK(stats->samples == samples);
  return 0;
}
