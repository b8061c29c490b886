#include "gateway/metrics.h"

namespace warmpath::gateway {
namespace {

constexpr char kAnswers[] = "warmpath_gateway_responses_total";
constexpr char kAnswersHelp[] = "Responses sent by the gateway, by class of status.";
constexpr char kRetries[] = "warmpath_gateway_retries_total";
constexpr char kRetriesHelp[] =
    "Requests sent to a second endpoint: the first refused the connection (connect), closed it "
    "before answering (reset) or answered 502, 503 or 504 (status).";
constexpr char kByLoad[] = "warmpath_gateway_routed_by_load_total";
constexpr char kByLoadHelp[] =
    "Requests routed without exact tokens because tokenizing took longer than --decision-timeout "
    "(timeout) or its queue was full (queue_full).";

}  // namespace

GatewayMetrics::GatewayMetrics(Registry& registry)
    : answered_2xx(registry.AddCounter(kAnswers, kAnswersHelp, {{"class", "2xx"}})),
      answered_4xx(registry.AddCounter(kAnswers, kAnswersHelp, {{"class", "4xx"}})),
      answered_5xx(registry.AddCounter(kAnswers, kAnswersHelp, {{"class", "5xx"}})),
      client_aborts(
          registry.AddCounter("warmpath_gateway_client_aborts_total",
                              "Requests whose client went away before the answer was complete.")),
      retries_connect(registry.AddCounter(kRetries, kRetriesHelp, {{"reason", "connect"}})),
      retries_reset(registry.AddCounter(kRetries, kRetriesHelp, {{"reason", "reset"}})),
      retries_status(registry.AddCounter(kRetries, kRetriesHelp, {{"reason", "status"}})),
      broken_streams(registry.AddCounter("warmpath_gateway_broken_answers_total",
                                         "Answers an endpoint began and did not finish.")),
      decision_timeouts(registry.AddCounter(kByLoad, kByLoadHelp, {{"reason", "timeout"}})),
      decision_pool_full(registry.AddCounter(kByLoad, kByLoadHelp, {{"reason", "queue_full"}})),
      in_flight(registry.AddGauge("warmpath_gateway_requests_in_flight",
                                  "Requests being routed or answered.")) {}

void GatewayMetrics::CountAnswer(int status) const {
  (status < 400 ? answered_2xx : status < 500 ? answered_4xx : answered_5xx).Add();
}

}  // namespace warmpath::gateway
