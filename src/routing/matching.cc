#include "routing/matching.h"

#include <algorithm>
#include <cmath>

#include "kv/keys.h"

namespace warmpath::routing {
namespace {

// What one (endpoint, rank) has of all prompts together.
struct RankMatch {
  uint32_t matched = 0;
  uint32_t usable = 0;
  uint32_t expected_usable = 0;

  void Add(const RankMatch& more) {
    matched += more.matched;
    usable += more.usable;
    expected_usable += more.expected_usable;
  }
};

// Of a member with several ranks.
struct RankedMatch {
  uint32_t member = 0;
  uint16_t rank = 0;
  RankMatch match;
};

// Of one Match; a thread's is used again.
struct MatchMemory {
  std::vector<index::HolderMatch> found;
  std::vector<RankMatch> matches;  // per member; of those with several ranks in `ranked`
  std::vector<RankedMatch> ranked;
};
thread_local MatchMemory memory;

bool HasRanks(const fleet::Endpoint& endpoint) {
  return endpoint.spec.data_parallel > 1;
}

// The first key of chains in a space, computed again only when another was asked for meanwhile.
kv::BlockKey RootOf(uint32_t block_size, const std::string& adapter, const std::string& salt) {
  struct Last {
    uint32_t block_size = 0;
    std::string adapter;
    std::string salt;
    kv::BlockKey root{};
  };
  thread_local Last last;
  if (last.block_size != block_size || last.adapter != adapter || last.salt != salt)
    last = {block_size, adapter, salt, kv::RootKey(block_size, adapter, salt)};
  return last.root;
}

SpaceKeys KeysIn(const Prepared& prepared, const Pool& pool, uint32_t block_size,
                 uint32_t adapter) {
  auto keys = std::make_shared<PromptKeys>(prepared.prompts.size());
  SpaceKeys space{block_size, adapter, 0, nullptr};
  std::optional<kv::BlockKey> root;
  for (size_t i = 0; i < prepared.prompts.size(); ++i) {
    const prompt::EncodedPrompt& prompt = prepared.prompts[i];
    if (prompt.token_count() < block_size) continue;
    if (!root) root = RootOf(block_size, pool.adapters[adapter], prepared.view.cache_salt);
    (*keys)[i] = prompt.Keys(*root, block_size);
    space.blocks += static_cast<uint32_t>((*keys)[i].size());
  }
  space.keys = std::move(keys);
  return space;
}

// Adds to memory.matches and memory.ranked what the members in space number `number` hold.
void MatchSpace(const Prepared& prepared, const View& view, const Pool& pool,
                const index::KvIndex& index, const MatchedRequest& request, uint32_t number) {
  const SpaceKeys& space = request.spaces[number];
  for (size_t i = 0; i < space.keys->size(); ++i) {
    const auto& chain = (*space.keys)[i];
    if (chain.empty()) continue;
    index.Match(chain, memory.found);
    const uint64_t tokens = prepared.prompts[i].token_count();
    auto from = pool.by_id.begin();  // both are in order of endpoints
    for (const index::HolderMatch& found : memory.found) {
      from =
          std::lower_bound(from, pool.by_id.end(), std::pair{found.holder.endpoint, uint32_t{0}});
      if (from == pool.by_id.end()) break;
      if (from->first != found.holder.endpoint) continue;
      const uint32_t member = from->second;
      if (request.candidate_space[member] != number) continue;
      const RankMatch match{found.blocks, UsableBlocks(found.blocks, tokens, space.block_size),
                            UsableBlocks(found.expected_blocks, tokens, space.block_size)};
      if (!HasRanks(*view.entries()[pool.members[member].place].endpoint)) {
        if (found.holder.rank == 0) memory.matches[member].Add(match);
        continue;
      }
      const auto known =
          std::find_if(memory.ranked.begin(), memory.ranked.end(), [&](const RankedMatch& ranked) {
            return ranked.member == member && ranked.rank == found.holder.rank;
          });
      if (known != memory.ranked.end()) {
        known->match.Add(match);
      } else {
        memory.ranked.push_back({member, found.holder.rank, match});
      }
    }
  }
}

// The rank to send to: longest expected match, then fewest requests in flight there, then fewest
// blocks resident (an idle engine fills all its caches, not the first alone), then the lowest
// number.
std::pair<uint16_t, RankMatch> BestRank(const fleet::Endpoint& endpoint, uint32_t member,
                                        const ViewSources& sources) {
  std::pair<uint16_t, RankMatch> best;
  std::pair<int64_t, uint64_t> best_load;
  for (uint16_t rank = 0; rank < endpoint.spec.data_parallel; ++rank) {
    RankMatch match;
    for (const RankedMatch& ranked : memory.ranked) {
      if (ranked.member == member && ranked.rank == rank) match = ranked.match;
    }
    const std::pair<int64_t, uint64_t> load = {sources.inflight.Load(endpoint.id, rank).requests,
                                               sources.index.ResidentBlocks({endpoint.id, rank})};
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

void Describe(const Prepared& prepared, bool with_ids, scheduling::Request& request) {
  request.id = prepared.request_id;
  request.model = prepared.view.model;
  request.target_model = prepared.target_model;
  request.prompt_tokens = prepared.prompt_tokens;
  request.tokens_known = prepared.tokens_known;
  request.tokens_estimated = !prepared.tokens_known && !prepared.estimated.empty();
  request.prompts.clear();
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
  request.produced.clear();
}

// The number of the space, which is made where it is new.
uint32_t SpaceOf(const Prepared& prepared, const Pool& pool, uint32_t block_size, uint32_t adapter,
                 std::vector<SpaceKeys>& spaces) {
  for (uint32_t i = 0; i < spaces.size(); ++i) {
    if (spaces[i].block_size == block_size && spaces[i].adapter == adapter) return i;
  }
  spaces.push_back(KeysIn(prepared, pool, block_size, adapter));
  return static_cast<uint32_t>(spaces.size() - 1);
}

}  // namespace

uint32_t UsableBlocks(uint32_t resident, uint64_t tokens, uint32_t block_size) {
  if (tokens == 0 || block_size == 0) return 0;
  return static_cast<uint32_t>(std::min<uint64_t>(resident, (tokens - 1) / block_size));
}

void Match(const Prepared& prepared, const View& view, const Pool& pool, const ViewSources& sources,
           bool with_ids, MatchedRequest& out) {
  Describe(prepared, with_ids, out.request);
  const size_t n = pool.members.size();
  auto& candidates = out.request.candidates;
  candidates.resize(n);
  out.spaces.clear();
  out.candidate_space.resize(n);
  out.best_usable_blocks = out.best_resident_blocks = 0;
  memory.matches.assign(n, {});
  memory.ranked.clear();

  for (size_t i = 0; i < n; ++i) {
    const View::Entry& entry = view.entries()[pool.members[i].place];
    scheduling::Candidate& candidate = candidates[i];
    candidate.endpoint = entry.endpoint;
    // Learned since, perhaps: the first requests after an engine's first events know.
    candidate.block_size =
        entry.block_size != 0 ? entry.block_size : BlockSizeOf(*entry.endpoint, sources.events);
    candidate.prompt_tokens = prepared.prompt_tokens;
    candidate.inflight = entry.inflight.Read();
    candidate.resident_blocks = entry.flowing || entry.resident_blocks > 0
                                    ? entry.resident_blocks
                                    : sources.index.EndpointBlocks(entry.endpoint->id);
    candidate.capacity_blocks = entry.endpoint->load.kv_blocks;
    const bool keyed = prepared.tokens_known && candidate.block_size != 0;
    candidate.exact = keyed && (entry.flowing || candidate.resident_blocks > 0);
    out.candidate_space[i] =
        keyed ? SpaceOf(prepared, pool, candidate.block_size, pool.members[i].adapter, out.spaces)
              : MatchedRequest::kNoSpace;
  }
  for (uint32_t space = 0; space < out.spaces.size(); ++space)
    MatchSpace(prepared, view, pool, sources.index, out, space);

  for (uint32_t i = 0; i < n; ++i) {
    scheduling::Candidate& candidate = candidates[i];
    RankMatch match = memory.matches[i];
    candidate.rank = 0;
    if (HasRanks(*candidate.endpoint))
      std::tie(candidate.rank, match) = BestRank(*candidate.endpoint, i, sources);
    candidate.matched_blocks = match.matched;
    candidate.usable_blocks = match.usable;
    candidate.expected_usable_blocks = match.expected_usable;
    candidate.cached_tokens = uint64_t{match.usable} * candidate.block_size;
    candidate.expected_cached_tokens = uint64_t{match.expected_usable} * candidate.block_size;
    const uint32_t space = out.candidate_space[i];
    candidate.total_blocks = space == MatchedRequest::kNoSpace ? 0 : out.spaces[space].blocks;
    out.best_usable_blocks = std::max(out.best_usable_blocks, match.usable);
    out.best_resident_blocks = std::max(out.best_resident_blocks, match.matched);
  }
}

std::shared_ptr<const RecordNames> NamesOf(const scheduling::Scheduler& scheduler) {
  auto names = std::make_shared<RecordNames>();
  for (const scheduling::ProfilePlugin& scorer : scheduler.scorers())
    names->weights.emplace_back(scorer.plugin, scorer.weight);
  names->filters = scheduler.filters();
  return names;
}

std::shared_ptr<Record> MakeRecord(const Prepared& prepared, const View& view, const Pool& pool,
                                   const scheduling::Request& request,
                                   const scheduling::Decision& decision,
                                   std::shared_ptr<const RecordNames> names,
                                   std::shared_ptr<Record> record) {
  if (record == nullptr) record = std::make_shared<Record>();
  record->request_id = prepared.request_id;
  record->model = prepared.view.model;
  record->target_model = prepared.target_model;
  record->rewrite = prepared.rewrite;
  record->priority = prepared.priority;
  record->prompt_tokens = prepared.prompt_tokens;
  record->tokens_note = prepared.tokens_note;
  record->roster = view.roster();
  const size_t n = request.candidates.size();
  record->verdicts.resize(n);
  for (size_t i = 0; i < n; ++i) {
    const scheduling::Candidate& candidate = request.candidates[i];
    Record::Verdict& verdict = record->verdicts[i];
    verdict.place = pool.members[i].place;
    verdict.block_size = candidate.block_size;
    verdict.matched_blocks = candidate.matched_blocks;
    verdict.usable_blocks = candidate.usable_blocks;
    verdict.expected_usable_blocks = candidate.expected_usable_blocks;
    verdict.rank = candidate.rank;
    verdict.total = decision.totals[i];
    if (!decision.filtered_by[i].empty()) {
      const auto filter =
          std::find(names->filters.begin(), names->filters.end(), decision.filtered_by[i]);
      verdict.filter = static_cast<uint16_t>(filter - names->filters.begin() + 1);
    }
  }
  record->scores.reserve(decision.scores.size() * n);
  for (const scheduling::PluginScore& score : decision.scores)
    record->scores.insert(record->scores.end(), score.scores.begin(), score.scores.end());
  record->names = std::move(names);
  if (!decision.picked.empty()) record->chosen_place = pool.members[decision.picked.front()].place;
  return record;
}

}  // namespace warmpath::routing
