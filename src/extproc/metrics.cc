#include "extproc/metrics.h"

namespace warmpath::extproc {
namespace {

constexpr char kByLoad[] = "warmpath_extproc_routed_by_load_total";
constexpr char kByLoadHelp[] =
    "Requests routed without exact tokens because tokenizing took longer than the decision timeout "
    "(timeout), its queue was full (queue_full), or the proxy's body mode shows the body too late "
    "(body_mode).";
constexpr char kRefused[] = "warmpath_extproc_refused_total";
constexpr char kRefusedHelp[] =
    "Requests answered by the endpoint picker itself: invalid (400), too_large (413), memory (503, "
    "all bodies together), model (404), saturated (429), no_endpoints (503), other.";
constexpr char kStreams[] = "llm_d_epp_extproc_streams_total";
constexpr char kStreamsHelp[] = "Finished ext_proc streams by gRPC status code.";

}  // namespace

ExtProcMetrics::ExtProcMetrics(Registry& metrics)
    : registry(metrics),
      decision_timeouts(metrics.AddCounter(kByLoad, kByLoadHelp, {{"reason", "timeout"}})),
      decision_pool_full(metrics.AddCounter(kByLoad, kByLoadHelp, {{"reason", "queue_full"}})),
      body_unseen(metrics.AddCounter(kByLoad, kByLoadHelp, {{"reason", "body_mode"}})),
      refused_invalid(metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "invalid"}})),
      refused_too_large(metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "too_large"}})),
      refused_memory(metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "memory"}})),
      refused_model(metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "model"}})),
      refused_saturated(metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "saturated"}})),
      refused_no_endpoints(
          metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "no_endpoints"}})),
      refused_other(metrics.AddCounter(kRefused, kRefusedHelp, {{"reason", "other"}})),
      aborts(metrics.AddCounter("warmpath_extproc_aborts_total",
                                "Streams that ended before their exchange was complete.")),
      protocol_errors(metrics.AddCounter("warmpath_extproc_protocol_errors_total",
                                         "Streams ended because a message broke the protocol.")) {}

StreamMetrics::StreamMetrics(Registry& metrics)
    : registry(metrics),
      in_flight(
          metrics.AddGauge("llm_d_epp_extproc_streams_inflight", "ext_proc streams now open.")),
      duration_seconds(metrics.AddHistogram(
          "llm_d_epp_extproc_stream_duration_seconds", "Life time of ext_proc streams.",
          {.001, .005, .01, .05, .1, .5, 1, 5, 10, 30, 60, 120, 300, 600})) {}

void StreamMetrics::CountEnd(const char* code, double seconds) const {
  registry.AddCounter(kStreams, kStreamsHelp, {{"code", code}}).Add();
  duration_seconds.Observe(seconds);
}

}  // namespace warmpath::extproc
