// What is sent, and when: a workload is a pure function of its options, so two sides of a
// comparison, and two runs, get the very same requests. Immutable after Create; thread-safe.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/result.h"

namespace warmpath::load {

enum class WorkloadKind {
  kGuide,         // the guide's text, again and again
  kSharedPrefix,  // groups sharing a system prompt, each with its own questions
  kUnique,        // no two requests share a token block
};

Result<WorkloadKind> ParseWorkloadKind(std::string_view name);  // guide, shared-prefix, unique
std::string_view WorkloadName(WorkloadKind kind);

struct WorkloadOptions {
  WorkloadKind kind = WorkloadKind::kSharedPrefix;
  uint64_t seed = 1;
  // Shared-prefix. The defaults are the judged draw: 30 x 5 prompts of 1024 + 256 tokens, 32 tokens
  // out.
  uint32_t groups = 30;
  uint32_t prompts_per_group = 5;
  uint32_t system_tokens = 1024;   // shared within a group (unique: part of the length)
  uint32_t question_tokens = 256;  // own of each prompt
  uint32_t output_tokens = 32;     // max_tokens; guide: 50
  bool ignore_eos = true;          // vLLM's extension: outputs have exactly output_tokens
  std::string model = {};
};

// The guide's prompt: its paragraph, one space, and the paragraph again; 891 bytes, 192 tokens of
// Qwen3.
std::string GuidePrompt();

// Token ids of prompts lie in [kFirstToken, kLastToken): ordinary tokens of every tokenizer in
// common use.
inline constexpr uint32_t kFirstToken = 1000;
inline constexpr uint32_t kLastToken = 30000;

class Workload {
 public:
  // kInvalidArgument names the option that is out of bounds (at most 2^20 prompts and 2^28 distinct
  // tokens).
  static Result<std::unique_ptr<Workload>> Create(const WorkloadOptions& options);

  const WorkloadOptions& options() const { return options_; }
  // Distinct prompts; request i is prompt Order(i). Unique: no bound, reported as 0.
  uint64_t prompts() const { return order_.size(); }
  // Shared-prefix: the pairs (group, question) are shuffled once and sent in that order again and
  // again, so that every prompt comes once per pass. The pair is group * prompts_per_group +
  // question.
  uint64_t Order(uint64_t index) const;
  // Token ids of request `index`; empty for the guide, whose prompt is text.
  std::vector<uint32_t> Tokens(uint64_t index) const;
  // JSON body for POST /v1/completions, streamed, with usage.
  std::string Body(uint64_t index) const;

 private:
  explicit Workload(WorkloadOptions options);
  std::vector<uint32_t> Draw(uint64_t stream, uint32_t count) const;

  WorkloadOptions options_;
  std::vector<uint32_t> order_;
  std::vector<std::string> prompt_json_;  // shared-prefix: by pair, rendered once
  std::string guide_json_;
  std::string tail_;  // members after the prompt
};

// Offsets from the start of a run: Poisson arrivals at `rate` per second. Ends after `count`
// arrivals when it is not 0, otherwise before `duration`.
std::vector<Duration> PoissonArrivals(double rate, uint64_t count, Duration duration,
                                      uint64_t seed);

}  // namespace warmpath::load
