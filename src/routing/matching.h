// From a prepared request and the state of the world to a scheduling problem: block keys, index
// match, candidates.
//
// A request is hashed once per distinct (block size, adapter) among the endpoints; each endpoint is
// matched in its own block size. Pure but for the index's recency marks; any thread.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "events/manager.h"
#include "fleet/fleet.h"
#include "index/kv_index.h"
#include "routing/director.h"
#include "routing/view.h"
#include "scheduling/types.h"

namespace warmpath::routing {

// Per prompt, the keys of its full blocks.
using PromptKeys = std::vector<std::vector<kv::BlockKey>>;

// Keys of every prompt of a request in one key space.
struct SpaceKeys {
  uint32_t block_size = 0;
  uint32_t adapter = 0;  // in Pool::adapters
  uint32_t blocks = 0;   // of all prompts
  std::shared_ptr<const PromptKeys> keys;
};

// Its memory may be used again and again.
struct MatchedRequest {
  scheduling::Request request;
  std::vector<SpaceKeys> spaces;
  static constexpr uint32_t kNoSpace = UINT32_MAX;
  std::vector<uint32_t> candidate_space;  // per candidate, in `spaces`
  uint32_t best_usable_blocks = 0;        // of the candidate with the longest match
  uint32_t best_resident_blocks = 0;      // the same, with those no engine can reuse

  // Null when the candidate's blocks cannot be told.
  std::shared_ptr<const PromptKeys> KeysOf(size_t candidate) const {
    const uint32_t space = candidate_space[candidate];
    return space == kNoSpace ? nullptr : spaces[space].keys;
  }
};

// Blocks an engine can reuse of `resident` for a prompt of `tokens`: the last prompt token is
// always computed anew (the engines' own rule: min(resident, (tokens - 1) / block_size)).
uint32_t UsableBlocks(uint32_t resident, uint64_t tokens, uint32_t block_size);

// `prepared`, `view` and `pool` outlive what is written to `out`, which refers to them. Candidates
// are in the pool's order. Without `with_ids` the request shows no exact ids, which take time to
// put together: for schedulers none of whose plugins reads them.
void Match(const Prepared& prepared, const View& view, const Pool& pool, const ViewSources& sources,
           bool with_ids, MatchedRequest& out);

// Why the request goes where it goes. Times, attempts and status are the caller's. `record`: an
// empty one to be filled in; null: a new one is made.
std::shared_ptr<Record> MakeRecord(const Prepared& prepared, const View& view, const Pool& pool,
                                   const scheduling::Request& request,
                                   const scheduling::Decision& decision,
                                   std::shared_ptr<const RecordNames> names,
                                   std::shared_ptr<Record> record = nullptr);
std::shared_ptr<const RecordNames> NamesOf(const scheduling::Scheduler& scheduler);

}  // namespace warmpath::routing
