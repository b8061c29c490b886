// Our side of ./dev bench index, and the maker of its corpus. See bench/README.md.
#include <cstdlib>
#include <cstring>

#include "measure.h"
#include "modes.h"

namespace {

using namespace warmpath::bench;

int Usage() {
  std::fputs(
      "index_bench --make-corpus FILE [--trace conversation_trace.jsonl] [--endpoints 64] "
      "[--quick]\n"
      "index_bench --corpus FILE [--mode workload|concurrency|eviction] [--budget-mib 4096] "
      "[--seconds S]\n"
      "index_bench --mode fill [--fill-blocks 100000000] [--fill-endpoints 4096] "
      "[--memory-fraction 0.6] [--seconds S]\n",
      stderr);
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  CorpusOptions make;
  ModeOptions options;
  std::string corpus, target, mode = "workload";
  for (int i = 1; i < argc; ++i) {
    const std::string flag = argv[i];
    if (flag == "--quick") {
      make.quick = true;
      continue;
    }
    if (i + 1 == argc) return Usage();
    const char* value = argv[++i];
    if (flag == "--make-corpus") {
      target = value;
    } else if (flag == "--trace") {
      make.trace = value;
    } else if (flag == "--endpoints") {
      make.endpoints = static_cast<uint32_t>(std::strtoul(value, nullptr, 10));
    } else if (flag == "--corpus") {
      corpus = value;
    } else if (flag == "--mode") {
      mode = value;
    } else if (flag == "--budget-mib") {
      options.budget_bytes = std::strtoull(value, nullptr, 10) << 20;
    } else if (flag == "--seconds") {
      options.seconds = std::strtod(value, nullptr);
    } else if (flag == "--fill-blocks") {
      options.fill_blocks = std::strtoull(value, nullptr, 10);
    } else if (flag == "--fill-endpoints") {
      options.fill_endpoints = static_cast<uint32_t>(std::strtoul(value, nullptr, 10));
    } else if (flag == "--memory-fraction") {
      options.memory_fraction = std::strtod(value, nullptr);
    } else {
      return Usage();
    }
  }
  if (make.endpoints == 0 || options.fill_endpoints == 0 || options.budget_bytes == 0)
    return Usage();
  if (!target.empty()) return MakeCorpus(make, target) ? 0 : 2;
  if (mode == "fill") return RunFill(options);
  if (corpus.empty()) return Usage();
  const Corpus data(corpus);
  if (mode == "workload") return RunWorkload(data, options);
  if (mode == "concurrency") return RunConcurrency(data, options);
  if (mode == "eviction") return RunEviction(data, options);
  return Usage();
}
