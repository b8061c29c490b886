#include "sim/engine_core.h"

#include <algorithm>
#include <set>
#include <utility>

#include "base/check.h"

namespace warmpath::sim {

struct EngineCore::Request {
  CoreRequest spec;
  std::vector<kv::TokenId> tokens;  // prompt, then generated
  std::vector<BlockHash> hashes;    // of every full block of `tokens`
  std::vector<BlockPool::BlockId> blocks;
  size_t stored_blocks = 0;  // of `blocks`, how many are announced or were hits
  size_t computed = 0;       // tokens whose KV is there, or will be at the end of the step
  size_t step_tokens = 0;    // of the step in progress
  bool admitted = false;     // ever ran: prefix statistics count once
  uint32_t cached_tokens = 0;

  size_t generated() const { return tokens.size() - spec.prompt.size(); }
};

EngineCore::EngineCore(CoreOptions options)
    : options_(std::move(options)),
      pool_(options_.blocks, options_.block_size, options_.reuse_empty_first) {}

EngineCore::~EngineCore() = default;

void EngineCore::Add(CoreRequest spec) {
  WP_CHECK(!spec.prompt.empty() && spec.max_tokens > 0);
  auto request = std::make_unique<Request>();
  request->tokens = spec.prompt;
  request->tokens.reserve(spec.prompt.size() + spec.max_tokens);
  request->spec = std::move(spec);
  if (!request->spec.scope) request->spec.scope = std::make_shared<CacheScope>();
  HashFullBlocks(*request);
  waiting_.push_back(request.get());
  requests_[request->spec.id] = std::move(request);
}

void EngineCore::Abort(uint64_t id) {
  auto it = requests_.find(id);
  if (it == requests_.end()) return;
  if (in_step_) {
    aborts_.push_back(id);
  } else {
    Remove(it->second.get());
  }
}

bool EngineCore::ResetPrefixCache(bool preempt_running) {
  WP_CHECK(!in_step_);
  if (preempt_running) {
    while (!running_.empty()) {
      Request* last = running_.back();
      running_.pop_back();
      Preempt(last);
    }
  }
  return pool_.Reset();
}

double EngineCore::usage() const {
  return 1.0 -
         static_cast<double>(pool_.free_blocks()) / static_cast<double>(pool_.usable_blocks());
}

Duration EngineCore::BeginStep() {
  WP_CHECK(!in_step_ && has_work());
  in_step_ = true;
  scheduled_.clear();
  step_prefill_tokens_ = 0;
  step_starts_prefill_ = step_decodes_ = false;

  bool preempted = false;
  const size_t left = ScheduleRunning(options_.max_num_batched_tokens, preempted);
  if (!preempted) ScheduleWaiting(left);

  const StepTiming& timing = options_.timing;
  double nanos = static_cast<double>(timing.prefill_per_token.count()) *
                 static_cast<double>(step_prefill_tokens_);
  if (step_starts_prefill_) nanos += static_cast<double>(timing.prefill_overhead.count());
  if (step_decodes_) nanos += static_cast<double>(timing.inter_token_latency.count());
  double factor = 1.0;
  if (options_.max_num_seqs > 1 && running_.size() > 1) {
    factor += (timing.load_factor - 1.0) * static_cast<double>(running_.size() - 1) /
              static_cast<double>(options_.max_num_seqs - 1);
  }
  return Duration(static_cast<Duration::rep>(nanos * factor));
}

size_t EngineCore::ScheduleRunning(size_t budget, bool& preempted) {
  for (size_t at = 0; at < running_.size() && budget > 0; ++at) {
    Request* request = running_[at];
    const size_t count = std::min(request->tokens.size() - request->computed, budget);
    if (count == 0) continue;
    bool fits = false;
    while (!(fits = AllocateFor(*request, count, {}))) {
      // Out of blocks: the request admitted last starts over later.
      Request* last = running_.back();
      running_.pop_back();
      preempted = true;
      Preempt(last);
      if (last == request) break;
    }
    if (!fits) break;
    budget -= count;
    request->step_tokens = count;
    scheduled_.push_back(request);
    if (count == 1 && request->computed >= request->spec.prompt.size()) {
      step_decodes_ = true;
    } else {
      step_prefill_tokens_ += count;
    }
  }
  return budget;
}

void EngineCore::ScheduleWaiting(size_t budget) {
  std::set<std::string_view> loras;
  for (Request* request : running_) {
    if (!request->spec.scope->lora_name.empty()) loras.insert(request->spec.scope->lora_name);
  }
  for (size_t at = 0; at < waiting_.size() && budget > 0;) {
    if (running_.size() >= options_.max_num_seqs) break;
    Request* request = waiting_[at];
    const std::string& lora = request->spec.scope->lora_name;
    if (!lora.empty() && !loras.contains(lora) && loras.size() >= options_.max_loras) {
      ++at;  // waits for an adapter slot; those behind it may go
      continue;
    }
    std::vector<BlockPool::BlockId> reused;
    if (options_.prefix_caching && request->spec.read_cache) {
      // The last token is always computed.
      const size_t usable = (request->tokens.size() - 1) / options_.block_size;
      reused = pool_.FindPrefix(
          std::span(request->hashes).first(std::min(usable, request->hashes.size())));
    }
    const size_t hit = reused.size() * options_.block_size;
    const size_t count = std::min(request->tokens.size() - hit, budget);
    // Admitted only when all of it fits now, so that chunks of several long prompts cannot block
    // each other.
    const size_t whole = (request->tokens.size() + options_.block_size - 1) / options_.block_size;
    if (whole - reused.size() + pool_.CountUnreferenced(reused) > pool_.free_blocks()) break;
    request->computed = hit;
    if (!AllocateFor(*request, count, reused)) {
      request->computed = 0;
      break;
    }
    waiting_.erase(waiting_.begin() + static_cast<ptrdiff_t>(at));
    running_.push_back(request);
    if (!lora.empty()) loras.insert(lora);
    if (!request->admitted) {
      request->admitted = true;
      request->cached_tokens = static_cast<uint32_t>(hit);
      stats_.prompt_tokens += request->spec.prompt.size();
      if (options_.prefix_caching && request->spec.read_cache) {
        stats_.prefix_queries += request->tokens.size();
        stats_.prefix_hits += hit;
      }
    }
    budget -= count;
    request->step_tokens = count;
    scheduled_.push_back(request);
    step_starts_prefill_ = true;
    step_prefill_tokens_ += count;
  }
}

bool EngineCore::AllocateFor(Request& request, size_t new_tokens,
                             std::span<const BlockPool::BlockId> reused) {
  const size_t total = request.computed + new_tokens;
  const size_t needed = (total + options_.block_size - 1) / options_.block_size;
  const size_t held = request.blocks.size() + reused.size();
  const size_t fresh = needed > held ? needed - held : 0;
  if (fresh + pool_.CountUnreferenced(reused) > pool_.free_blocks()) return false;

  if (!reused.empty()) {
    pool_.Touch(reused);
    request.blocks.assign(reused.begin(), reused.end());
    request.stored_blocks = reused.size();
    if (request.spec.report_reused) {
      pool_.Report(reused.size(), request.hashes, request.tokens, request.spec.scope);
    }
  }
  pool_.Allocate(fresh, request.blocks);
  if (options_.prefix_caching) {
    const size_t full = std::min(total / options_.block_size, request.hashes.size());
    if (full > request.stored_blocks) {
      pool_.Store(
          std::span(request.blocks).subspan(request.stored_blocks, full - request.stored_blocks),
          request.stored_blocks, request.hashes, request.tokens, request.spec.scope);
      request.stored_blocks = full;
    }
  }
  return true;
}

StepResult EngineCore::FinishStep() {
  WP_CHECK(in_step_);
  in_step_ = false;
  StepResult result;
  std::vector<Request*> finished;
  for (Request* request : std::exchange(scheduled_, {})) {
    request->computed += std::exchange(request->step_tokens, 0);
    if (request->computed < request->tokens.size()) continue;  // more prompt chunks to come
    const auto index = static_cast<uint32_t>(request->generated());
    const kv::TokenId token = request->spec.output ? request->spec.output(index) : 0;
    request->tokens.push_back(token);
    HashFullBlocks(*request);
    ++stats_.generation_tokens;
    const bool last = request->generated() >= request->spec.max_tokens;
    result.outputs.push_back({request->spec.id, token, index, last, request->cached_tokens});
    if (last) finished.push_back(request);
  }
  for (Request* request : finished) Remove(request);
  result.events = pool_.TakeEvents();
  for (uint64_t id : std::exchange(aborts_, {})) {
    auto it = requests_.find(id);
    if (it == requests_.end()) continue;
    std::erase_if(result.outputs, [&](const TokenOutput& output) { return output.request == id; });
    Remove(it->second.get());
  }
  return result;
}

void EngineCore::HashFullBlocks(Request& request) {
  if (!options_.prefix_caching) return;
  const size_t full = request.tokens.size() / options_.block_size;
  for (size_t at = request.hashes.size(); at < full; ++at) {
    const BlockHash* parent = at == 0 ? nullptr : &request.hashes[at - 1];
    auto tokens = std::span<const kv::TokenId>(request.tokens)
                      .subspan(at * options_.block_size, options_.block_size);
    request.hashes.push_back(options_.hash(parent, tokens, *request.spec.scope, at));
  }
}

void EngineCore::Preempt(Request* request) {
  pool_.Free(request->blocks);
  request->blocks.clear();
  request->stored_blocks = 0;
  request->computed = 0;
  request->step_tokens = 0;
  std::erase(scheduled_, request);
  waiting_.push_front(request);
  ++stats_.preemptions;
}

void EngineCore::Remove(Request* request) {
  pool_.Free(request->blocks);
  std::erase(running_, request);
  std::erase(waiting_, request);
  std::erase(scheduled_, request);
  requests_.erase(request->spec.id);
}

}  // namespace warmpath::sim
