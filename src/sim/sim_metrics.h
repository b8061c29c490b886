// What a simulated engine shows at /metrics, under vLLM's names and labels.
//
// Loop-confined, like the engine; rendering too.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "sim/engine_core.h"
#include "sim/options.h"

namespace warmpath::sim {

class SimMetrics {
 public:
  // `cores` (one per rank) outlive it; gauges and the cores' own counts are read when rendering.
  SimMetrics(const SimOptions& options, const std::string& model_name,
             std::vector<const EngineCore*> cores);
  ~SimMetrics();
  SimMetrics(const SimMetrics&) = delete;
  SimMetrics& operator=(const SimMetrics&) = delete;

  void FirstToken(uint32_t rank, Duration since_arrival);
  void NextToken(uint32_t rank, Duration since_last);
  void Finished(uint32_t rank, std::string_view reason,
                Duration since_arrival);  // "stop" or "length"
  void Aborted(uint32_t rank);

  std::string Render();

 private:
  struct Rank;
  Registry registry_;
  std::vector<std::unique_ptr<Rank>> ranks_;
};

}  // namespace warmpath::sim
