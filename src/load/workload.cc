#include "load/workload.h"

#include <fmt/format.h>

#include <iterator>
#include <numeric>

#include "base/log.h"
#include "load/random.h"

namespace warmpath::load {
namespace {

constexpr std::string_view kParagraph =
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit. Sed do eiusmod tempor incididunt ut "
    "labore et dolore magna aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco "
    "laboris nisi ut aliquip ex ea commodo consequat. Duis aute irure dolor in reprehenderit in "
    "voluptate velit esse cillum dolore eu fugiat nulla pariatur. Excepteur sint occaecat "
    "cupidatat non proident, sunt in culpa qui officia deserunt mollit anim id est laborum.";

constexpr uint64_t kMaxPrompts = uint64_t{1} << 20;
constexpr uint64_t kMaxTokens = uint64_t{1} << 28;

// Streams of draws: one for the order, then one per group, per prompt and per unique request.
constexpr uint64_t kOrderStream = 0;
constexpr uint64_t kGroupStreams = uint64_t{1} << 32;
constexpr uint64_t kPromptStreams = uint64_t{2} << 32;
constexpr uint64_t kUniqueStreams = uint64_t{3} << 32;

std::string RenderIds(const std::vector<uint32_t>& ids) {
  return fmt::format("[{}]", fmt::join(ids, ","));
}

}  // namespace

Result<WorkloadKind> ParseWorkloadKind(std::string_view name) {
  if (name == "guide") return WorkloadKind::kGuide;
  if (name == "shared-prefix") return WorkloadKind::kSharedPrefix;
  if (name == "unique") return WorkloadKind::kUnique;
  return Fail(Code::kInvalidArgument,
              fmt::format("workload '{}': allowed are guide, shared-prefix, unique", name));
}

std::string_view WorkloadName(WorkloadKind kind) {
  switch (kind) {
    case WorkloadKind::kGuide:
      return "guide";
    case WorkloadKind::kSharedPrefix:
      return "shared-prefix";
    case WorkloadKind::kUnique:
      return "unique";
  }
  return "";
}

std::string GuidePrompt() {
  return fmt::format("{} {}", kParagraph, kParagraph);
}

Workload::Workload(WorkloadOptions options) : options_(std::move(options)) {}

Result<std::unique_ptr<Workload>> Workload::Create(const WorkloadOptions& options) {
  const uint64_t prompt_tokens = uint64_t{options.system_tokens} + options.question_tokens;
  const uint64_t pairs = uint64_t{options.groups} * options.prompts_per_group;
  const bool shared = options.kind == WorkloadKind::kSharedPrefix;
  if (options.kind != WorkloadKind::kGuide && prompt_tokens == 0) {
    return Fail(Code::kInvalidArgument, "workload: prompts need at least one token");
  }
  if (shared && (pairs == 0 || pairs > kMaxPrompts)) {
    return Fail(Code::kInvalidArgument,
                fmt::format("workload: groups x prompts per group is {}, allowed are 1 to {}",
                            pairs, kMaxPrompts));
  }
  if (prompt_tokens * (shared ? pairs : 1) > kMaxTokens) {
    return Fail(Code::kInvalidArgument,
                fmt::format("workload: more than {} prompt tokens in all", kMaxTokens));
  }
  if (options.output_tokens == 0) {
    return Fail(Code::kInvalidArgument, "workload: output tokens must be at least 1");
  }

  std::unique_ptr<Workload> workload(new Workload(options));
  workload->tail_ = fmt::format(
      R"("max_tokens":{},"temperature":0,"stream":true,"stream_options":{{"include_usage":true}}{}}})",
      options.output_tokens, options.ignore_eos ? R"(,"ignore_eos":true)" : "");
  if (options.kind == WorkloadKind::kGuide) {
    workload->guide_json_ = JsonQuote(GuidePrompt());
    workload->order_ = {0};
  } else if (shared) {
    workload->order_.resize(pairs);
    std::iota(workload->order_.begin(), workload->order_.end(), 0u);
    Random random(StreamSeed(options.seed, kOrderStream));
    random.Shuffle(workload->order_);
    workload->prompt_json_.resize(pairs);
    for (uint64_t i = 0; i < pairs; ++i) {
      workload->prompt_json_[workload->order_[i]] = RenderIds(workload->Tokens(i));
    }
  }
  return workload;
}

uint64_t Workload::Order(uint64_t index) const {
  return order_.empty() ? index : order_[index % order_.size()];
}

std::vector<uint32_t> Workload::Draw(uint64_t stream, uint32_t count) const {
  Random random(StreamSeed(options_.seed, stream));
  std::vector<uint32_t> ids(count);
  for (uint32_t& id : ids) {
    id = kFirstToken + static_cast<uint32_t>(random.Below(kLastToken - kFirstToken));
  }
  return ids;
}

std::vector<uint32_t> Workload::Tokens(uint64_t index) const {
  switch (options_.kind) {
    case WorkloadKind::kGuide:
      return {};
    case WorkloadKind::kUnique:
      return Draw(kUniqueStreams + index, options_.system_tokens + options_.question_tokens);
    case WorkloadKind::kSharedPrefix:
      break;
  }
  const uint64_t pair = Order(index);
  std::vector<uint32_t> ids =
      Draw(kGroupStreams + pair / options_.prompts_per_group, options_.system_tokens);
  const std::vector<uint32_t> question = Draw(kPromptStreams + pair, options_.question_tokens);
  ids.insert(ids.end(), question.begin(), question.end());
  return ids;
}

std::string Workload::Body(uint64_t index) const {
  std::string prompt;
  switch (options_.kind) {
    case WorkloadKind::kGuide:
      prompt = guide_json_;
      break;
    case WorkloadKind::kSharedPrefix:
      prompt = prompt_json_[Order(index)];
      break;
    case WorkloadKind::kUnique:
      prompt = RenderIds(Tokens(index));
      break;
  }
  return fmt::format(R"({{"model":{},"prompt":{},{})", JsonQuote(options_.model), prompt, tail_);
}

std::vector<Duration> PoissonArrivals(double rate, uint64_t count, Duration duration,
                                      uint64_t seed) {
  constexpr uint64_t kArrivalStream = uint64_t{4} << 32;
  Random random(StreamSeed(seed, kArrivalStream));
  std::vector<Duration> arrivals;
  double at = 0;
  while (count != 0 ? arrivals.size() < count : true) {
    at += random.Exponential(1 / rate);
    const Duration offset = FromSeconds(at);
    if (count == 0 && offset >= duration) break;
    arrivals.push_back(offset);
  }
  return arrivals;
}

}  // namespace warmpath::load
