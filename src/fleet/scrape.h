// What an engine's answers to /metrics, /v1/models and /version say. Pure functions on untrusted
// text; bounded.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "fleet/endpoint.h"
#include "fleet/engine_metrics.h"

namespace warmpath::fleet {

// An engine lists its base model and its adapters; more than this is not believed.
inline constexpr size_t kMaxServedModels = 4096;
inline constexpr size_t kMaxModelIdBytes = 1024;

inline constexpr size_t kMaxAdaptersListed = 4096;  // per state, of one engine

// Reads pages of one kind of engine. `candidates` are asked in order: the first with a load series
// on the page is believed, so that a list recognises engines. vLLM's name for cache usage before
// 0.12 is understood where its today's name is asked for. Immutable, thread-safe.
class LoadReader {
 public:
  explicit LoadReader(std::vector<EngineMetrics> candidates);
  ~LoadReader();
  // Fields nobody reported keep their default; `at` is left to the caller. kUnsupported: the page
  // has none of the load metrics (a vLLM started with --disable-log-stats).
  Result<ScrapedLoad> Read(std::string_view metrics_text) const;
  const std::string& health_path() const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

// Which engine an endpoint with these labels is, and how it is read. Without the engine label:
// config.default_engine, else what the page looks like (vLLM, SGLang). An engine nobody knows is
// treated the same, with `known` false.
struct EngineChoice {
  std::string engine;  // of the label; "" without
  bool known = true;
  std::shared_ptr<const LoadReader> reader;
};

// One reader per engine, made when first asked for. Not thread-safe.
class LoadReaders {
 public:
  explicit LoadReaders(ScrapeConfig config) : config_(std::move(config)) {}
  EngineChoice For(const std::map<std::string, std::string>& labels);

 private:
  std::vector<EngineMetrics> Guesses() const;

  const ScrapeConfig config_;
  std::map<std::string, std::shared_ptr<const LoadReader>> readers_;
};

// By the built-in table: vLLM's names and SGLang's.
Result<ScrapedLoad> ParseLoad(std::string_view metrics_text);

// Body of GET /v1/models. Entries without a usable id are left out.
Result<std::vector<ServedModel>> ParseModels(std::string_view body);

// Body of GET /version: {"version": "0.14.1"}.
Result<std::string> ParseVersion(std::string_view body);

}  // namespace warmpath::fleet
