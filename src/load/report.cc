#include <fmt/format.h>

#include <utility>

#include "codec/json.h"
#include "load/bench.h"

namespace warmpath::load {
namespace {

codec::JsonObject LatencyJson(const Summary& seconds) {
  codec::JsonObject object;
  object["mean"] = seconds.mean * 1e3;
  object["p50"] = seconds.p50 * 1e3;
  object["p90"] = seconds.p90 * 1e3;
  object["p99"] = seconds.p99 * 1e3;
  return object;
}

void FillJson(const SideReport& side, codec::JsonObject& out) {
  out["requests"] = side.requests;
  out["errors"] = side.errors;
  codec::JsonObject kinds;
  for (const auto& [kind, count] : side.error_kinds) kinds[kind] = count;
  out["error_kinds"] = std::move(kinds);
  out["seconds"] = side.seconds;
  out["requests_per_second"] = side.request_rate;
  out["output_tokens_per_second"] = side.output_tokens_per_second;
  out["prompt_tokens"] = side.prompt_tokens;
  out["cached_tokens"] = side.cached_tokens;
  out["output_tokens"] = side.completion_tokens;
  out["hit_rate"] = side.hit_rate;
  out["ttft_ms"] = LatencyJson(side.ttft);
  out["itl_ms"] = LatencyJson(side.itl);
  out["e2e_ms"] = LatencyJson(side.e2e);
  codec::JsonObject endpoints;
  for (const auto& [endpoint, count] : side.endpoint_requests) endpoints[endpoint] = count;
  out["endpoint_requests"] = std::move(endpoints);
  if (side.imbalance > 0) {
    out["imbalance"] = side.imbalance;
  } else {
    out["imbalance"] = nullptr;
  }
  if (side.predicted > 0) {
    out["prediction_exact"] = side.prediction_exact;
    out["prediction_error_tokens"] = side.prediction_error;
  } else {
    out["prediction_exact"] = nullptr;
    out["prediction_error_tokens"] = nullptr;
  }
}

class Table {
 public:
  explicit Table(const BenchReport& report) : report_(report) {}

  void Row(std::string_view label, const std::function<std::string(const SideReport&)>& cell,
           std::string note = "") {
    text_ += fmt::format("{:<24}", label);
    for (const SideReport& side : report_.sides) text_ += fmt::format("{:>18}", cell(side));
    if (!note.empty()) text_ += fmt::format("   {}", note);
    text_ += '\n';
  }

  // Lower is better: how many times lower the second side is.
  void Latency(std::string_view label, double Summary::* value, Summary SideReport::* summary) {
    std::string note;
    if (report_.sides.size() == 2) {
      const double first = report_.sides[0].*summary.*value;
      const double second = report_.sides[1].*summary.*value;
      if (first > 0 && second > 0) {
        note = second <= first ? fmt::format("{:.1f}x lower", first / second)
                               : fmt::format("{:.1f}x higher", second / first);
      }
    }
    Row(
        label,
        [&](const SideReport& s) { return fmt::format("{:.1f} ms", s.*summary.*value * 1e3); },
        std::move(note));
  }

  std::string Take() { return std::move(text_); }

 private:
  const BenchReport& report_;
  std::string text_;
};

}  // namespace

std::string FormatTable(const BenchReport& report) {
  Table table(report);
  table.Row("", [](const SideReport& s) { return s.name; });
  table.Row("requests", [](const SideReport& s) { return fmt::to_string(s.requests); });
  table.Row("errors", [](const SideReport& s) { return fmt::to_string(s.errors); });
  table.Row("answered/s",
            [](const SideReport& s) { return fmt::format("{:.2f}", s.request_rate); });
  table.Row("output tokens/s",
            [](const SideReport& s) { return fmt::format("{:.1f}", s.output_tokens_per_second); });
  const std::pair<std::string_view, Summary SideReport::*> kinds[] = {
      {"TTFT", &SideReport::ttft}, {"ITL", &SideReport::itl}, {"E2E", &SideReport::e2e}};
  const std::pair<std::string_view, double Summary::*> values[] = {{"mean", &Summary::mean},
                                                                   {"p50", &Summary::p50},
                                                                   {"p90", &Summary::p90},
                                                                   {"p99", &Summary::p99}};
  for (const auto& [kind, summary] : kinds) {
    for (const auto& [name, value] : values) {
      table.Latency(fmt::format("{} {}", kind, name), value, summary);
    }
  }
  table.Row("token hit rate",
            [](const SideReport& s) { return fmt::format("{:.3f}", s.hit_rate); });
  table.Row("imbalance (max/mean)", [](const SideReport& s) {
    return s.imbalance > 0 ? fmt::format("{:.2f}", s.imbalance) : std::string("unknown");
  });
  table.Row("prediction exact", [](const SideReport& s) {
    return s.predicted > 0 ? fmt::format("{:.1f} %", s.prediction_exact * 100) : std::string("-");
  });
  std::string text = table.Take();
  for (const SideReport& side : report.sides) {
    for (const auto& [endpoint, count] : side.endpoint_requests) {
      text += fmt::format("{}: {} requests at {}\n", side.name, count, endpoint);
    }
    for (const auto& [kind, count] : side.error_kinds) {
      const auto example = side.error_examples.find(kind);
      text +=
          fmt::format("{}: {} errors: {}{}{}\n", side.name, count, kind,
                      example != side.error_examples.end() && !example->second.empty() ? ": " : "",
                      example != side.error_examples.end() ? example->second : "");
    }
  }
  if (report.stopped) text += "stopped early: requests in flight at that moment are left out\n";
  return text;
}

std::string FormatJson(const BenchReport& report) {
  codec::JsonObject out;
  out["workload"] = report.workload;
  out["model"] = report.model;
  out["seed"] = report.seed;
  if (report.rate > 0) {
    out["rate"] = report.rate;
  } else {
    out["concurrency"] = report.concurrency;
  }
  out["stopped"] = report.stopped;
  if (!report.sides.empty()) FillJson(report.sides.front(), out);
  if (report.sides.size() > 1) {
    codec::JsonArray sides;
    for (const SideReport& side : report.sides) {
      codec::JsonObject object;
      object["name"] = side.name;
      FillJson(side, object);
      sides.push_back(std::move(object));
    }
    out["sides"] = std::move(sides);
  }
  return codec::DumpJson(out);
}

}  // namespace warmpath::load
