#include "routing/matching.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <unordered_map>

#include "kv/keys.h"
#include "routing/attributes.h"

namespace warmpath::routing {
namespace {

using EndpointPtr = std::shared_ptr<const fleet::Endpoint>;

// What one (endpoint, rank) has of all prompts together.
struct RankMatch {
  uint32_t matched = 0;
  uint32_t usable = 0;
  uint32_t expected_usable = 0;
};
using Matches = std::map<index::Holder, RankMatch>;

std::string AdapterOf(const fleet::Endpoint& endpoint, const std::string& model) {
  const fleet::ServedModel* served = endpoint.FindModel(model);
  return served != nullptr && served->is_adapter() ? served->id : std::string();
}

std::shared_ptr<const PromptKeys> KeysOf(const Prepared& prepared, const KeySpace& space) {
  auto keys = std::make_shared<PromptKeys>();
  const kv::BlockKey root = kv::RootKey(space.block_size, space.adapter, prepared.view.cache_salt);
  for (const prompt::EncodedPrompt& prompt : prepared.prompts) {
    keys->push_back(prompt.Keys(root, space.block_size));
  }
  return keys;
}

Matches MatchKeys(const Prepared& prepared, const PromptKeys& keys, uint32_t block_size,
                  const index::KvIndex& index) {
  Matches matches;
  for (size_t i = 0; i < keys.size(); ++i) {
    const uint64_t tokens = prepared.prompts[i].token_count();
    for (const index::HolderMatch& match : index.Match(keys[i])) {
      RankMatch& rank = matches[match.holder];
      rank.matched += match.blocks;
      rank.usable += UsableBlocks(match.blocks, tokens, block_size);
      rank.expected_usable += UsableBlocks(match.expected_blocks, tokens, block_size);
    }
  }
  return matches;
}

// The rank to send to: longest expected match, then fewest requests in flight there, then fewest
// blocks resident (an idle engine fills all its caches, not the first alone), then the lowest
// number.
std::pair<uint16_t, RankMatch> BestRank(const fleet::Endpoint& endpoint, const Matches& matches,
                                        const index::KvIndex& index,
                                        const fleet::InflightLedger& inflight) {
  std::pair<uint16_t, RankMatch> best;
  std::pair<int64_t, uint64_t> best_load;
  for (uint16_t rank = 0; rank < std::max<uint16_t>(endpoint.spec.data_parallel, 1); ++rank) {
    const auto it = matches.find({endpoint.id, rank});
    const RankMatch match = it == matches.end() ? RankMatch{} : it->second;
    std::pair<int64_t, uint64_t> load;
    if (endpoint.spec.data_parallel > 1) {
      load = {inflight.Load(endpoint.id, rank).requests, index.ResidentBlocks({endpoint.id, rank})};
    }
    const bool better = match.expected_usable != best.second.expected_usable
                            ? match.expected_usable > best.second.expected_usable
                            : load < best_load;
    if (rank == 0 || better) {
      best = {rank, match};
      best_load = load;
    }
  }
  return best;
}

}  // namespace

uint32_t UsableBlocks(uint32_t resident, uint64_t tokens, uint32_t block_size) {
  if (tokens == 0 || block_size == 0) return 0;
  return static_cast<uint32_t>(std::min<uint64_t>(resident, (tokens - 1) / block_size));
}

uint32_t BlockSizeOf(const fleet::Endpoint& endpoint, const events::EventsManager* events) {
  const uint32_t learned = events == nullptr ? 0 : events->block_size(endpoint.id);
  return learned != 0 ? learned : endpoint.load.block_size;
}

Result<std::vector<EndpointPtr>> EligibleEndpoints(
    const fleet::Snapshot& snapshot, const std::string& model,
    const std::vector<fleet::EndpointId>& exclude,
    const std::optional<std::vector<std::string>>& subset) {
  std::optional<Subset> allowed;
  if (subset) allowed.emplace(*subset);
  std::vector<EndpointPtr> healthy;
  std::vector<EndpointPtr> unknown;
  size_t serving = 0;
  size_t within = 0;  // serving, and in the subset
  for (const EndpointPtr& endpoint : snapshot.endpoints) {
    if (!model.empty() && !endpoint->models.empty() && endpoint->FindModel(model) == nullptr)
      continue;
    ++serving;
    if (allowed && !allowed->Contains(*endpoint)) continue;
    ++within;
    if (std::find(exclude.begin(), exclude.end(), endpoint->id) != exclude.end()) continue;
    if (endpoint->health == fleet::Health::kHealthy) healthy.push_back(endpoint);
    // A proxy cannot be sent to a name.
    if (endpoint->health == fleet::Health::kUnknown && endpoint->has_address())
      unknown.push_back(endpoint);
  }
  if (serving == 0 && !snapshot.endpoints.empty()) {
    return Fail(Code::kNotFound, fmt::format("The model `{}` does not exist.", model));
  }
  if (allowed && within == 0) {
    return Fail(Code::kUnavailable, "No engine of the requested subset can serve the request.");
  }
  if (!healthy.empty()) return healthy;
  if (!unknown.empty()) return unknown;
  return Fail(Code::kUnavailable,
              exclude.empty()
                  ? fmt::format("No engine can serve the request: {} configured, none healthy.",
                                snapshot.endpoints.size())
                  : std::string("No other engine can serve the request."));
}

FlowingEvents EndpointsWithEvents(const std::vector<events::PublisherStatus>& publishers) {
  FlowingEvents flowing;
  for (const events::PublisherStatus& publisher : publishers) {
    if ((publisher.connected || publisher.received > 0) && !publisher.silent)
      flowing.insert(publisher.endpoint);
  }
  return flowing;
}

MatchedRequest Match(const Prepared& prepared, const std::vector<EndpointPtr>& endpoints,
                     const index::KvIndex& index, const events::EventsManager* events,
                     const FlowingEvents& flowing, const fleet::InflightLedger& inflight,
                     bool with_ids) {
  MatchedRequest out;
  scheduling::Request& request = out.request;
  request.id = prepared.request_id;
  request.model = prepared.view.model;
  request.target_model = prepared.target_model;
  request.prompt_tokens = prepared.prompt_tokens;
  request.tokens_known = prepared.tokens_known;
  request.tokens_estimated = !prepared.tokens_known && !prepared.estimated.empty();
  if (with_ids) {
    for (const prompt::EncodedPrompt& prompt : prepared.prompts)
      request.prompts.push_back(prompt.ids());
  }
  if (request.tokens_estimated) {
    for (const auto& tokens : prepared.estimated) request.prompts.push_back(tokens);
  }
  request.max_output_tokens = prepared.view.max_tokens.value_or(0);
  request.cache_salt = prepared.view.cache_salt;
  request.headers = &prepared.attributes.headers;
  request.fairness_id = prepared.fairness_id;
  request.priority = prepared.priority;
  request.candidates.reserve(endpoints.size());
  out.candidate_keys.reserve(endpoints.size());

  std::map<KeySpace, Matches> matches_of;
  for (const EndpointPtr& endpoint : endpoints) {
    scheduling::Candidate candidate;
    candidate.endpoint = endpoint;
    candidate.block_size = BlockSizeOf(*endpoint, events);
    candidate.prompt_tokens = prepared.prompt_tokens;
    candidate.inflight = inflight.Load(endpoint->id);
    candidate.resident_blocks = index.EndpointBlocks(endpoint->id);
    candidate.capacity_blocks = endpoint->load.kv_blocks;

    std::shared_ptr<const PromptKeys> keys;
    const Matches none;
    const Matches* matches = &none;
    if (prepared.tokens_known && candidate.block_size != 0) {
      const KeySpace space{candidate.block_size, AdapterOf(*endpoint, prepared.target_model)};
      auto& cached = out.keys[space];
      if (cached == nullptr) {
        cached = KeysOf(prepared, space);
        matches_of[space] = MatchKeys(prepared, *cached, space.block_size, index);
      }
      keys = cached;
      matches = &matches_of[space];
    }
    const auto [rank, match] = BestRank(*endpoint, *matches, index, inflight);
    candidate.rank = rank;
    candidate.exact =
        keys != nullptr && (flowing.contains(endpoint->id) || candidate.resident_blocks > 0);
    candidate.matched_blocks = match.matched;
    candidate.usable_blocks = match.usable;
    candidate.expected_usable_blocks = match.expected_usable;
    candidate.cached_tokens = uint64_t{match.usable} * candidate.block_size;
    candidate.expected_cached_tokens = uint64_t{match.expected_usable} * candidate.block_size;
    if (keys != nullptr) {
      for (const auto& chain : *keys) {
        candidate.total_blocks += static_cast<uint32_t>(chain.size());
      }
    }
    out.best_usable_blocks = std::max(out.best_usable_blocks, match.usable);
    out.best_resident_blocks = std::max(out.best_resident_blocks, match.matched);
    request.candidates.push_back(std::move(candidate));
    out.candidate_keys.push_back(std::move(keys));
  }
  return out;
}

std::shared_ptr<const Weights> WeightsOf(const scheduling::Scheduler& scheduler) {
  auto weights = std::make_shared<Weights>();
  for (const scheduling::ProfilePlugin& scorer : scheduler.scorers()) {
    weights->emplace_back(scorer.plugin, scorer.weight);
  }
  return weights;
}

std::shared_ptr<DecisionRecord> MakeRecord(const Prepared& prepared,
                                           const scheduling::Request& request,
                                           scheduling::Decision& decision,
                                           std::shared_ptr<const Weights> weights) {
  auto record = std::make_shared<DecisionRecord>();
  record->request_id = prepared.request_id;
  record->model = prepared.view.model;
  record->target_model = prepared.target_model;
  record->rewrite = prepared.rewrite;
  record->priority = prepared.priority;
  record->prompt_tokens = prepared.prompt_tokens;
  record->tokens_note = prepared.tokens_note;
  record->weights = std::move(weights);
  record->scores = std::move(decision.scores);
  record->endpoints.reserve(request.candidates.size());
  for (size_t i = 0; i < request.candidates.size(); ++i) {
    const scheduling::Candidate& candidate = request.candidates[i];
    EndpointVerdict verdict;
    verdict.name = candidate.endpoint->name();
    verdict.url = candidate.endpoint->spec.url.ToString();
    verdict.rank = candidate.rank;
    verdict.block_size = candidate.block_size;
    verdict.matched_blocks = candidate.matched_blocks;
    verdict.cached_tokens = candidate.cached_tokens;
    verdict.expected_cached_tokens = candidate.expected_cached_tokens;
    if (!std::isnan(decision.totals[i])) verdict.total = decision.totals[i];
    verdict.filtered_by = decision.filtered_by[i];
    record->endpoints.push_back(std::move(verdict));
  }
  if (!decision.picked.empty()) {
    record->chosen = request.candidates[decision.picked.front()].endpoint->name();
  }
  return record;
}

}  // namespace warmpath::routing
