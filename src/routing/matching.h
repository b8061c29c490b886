// From a prepared request and the state of the world to a scheduling problem: block keys, index
// match, candidates.
//
// A request is hashed once per distinct (block size, adapter) among the endpoints; each endpoint is
// matched in its own block size. Pure but for the index's recency marks; any thread.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include "events/manager.h"
#include "fleet/fleet.h"
#include "index/kv_index.h"
#include "routing/director.h"
#include "scheduling/types.h"

namespace warmpath::routing {

// Keys of every prompt of a request in one key space.
struct KeySpace {
  uint32_t block_size = 0;
  std::string adapter;
  bool operator<(const KeySpace& other) const {
    return std::tie(block_size, adapter) < std::tie(other.block_size, other.adapter);
  }
};
using PromptKeys = std::vector<std::vector<kv::BlockKey>>;

struct MatchedRequest {
  scheduling::Request request;
  std::map<KeySpace, std::shared_ptr<const PromptKeys>> keys;
  std::vector<std::shared_ptr<const PromptKeys>>
      candidate_keys;                 // per candidate; null when it has no key space
  uint32_t best_usable_blocks = 0;    // of the candidate with the longest match
  uint32_t best_resident_blocks = 0;  // the same, with those no engine can reuse
};

// Blocks an engine can reuse of `resident` for a prompt of `tokens`: the last prompt token is
// always computed anew (the engines' own rule: min(resident, (tokens - 1) / block_size)).
uint32_t UsableBlocks(uint32_t resident, uint64_t tokens, uint32_t block_size);

// Block size of an endpoint: learned from its events, else as scraped; 0 = unknown.
uint32_t BlockSizeOf(const fleet::Endpoint& endpoint, const events::EventsManager* events);

// Endpoints that may serve the request: they serve the model (or have not said yet) and are
// healthy; when none is healthy, those never asked so far. With a `subset` only those in it. An
// empty model is served by all. kNotFound: the model is served by none; kUnavailable: nobody can be
// asked now.
Result<std::vector<std::shared_ptr<const fleet::Endpoint>>> EligibleEndpoints(
    const fleet::Snapshot& snapshot, const std::string& model,
    const std::vector<fleet::EndpointId>& exclude,
    const std::optional<std::vector<std::string>>& subset = std::nullopt);

// Endpoints whose events arrive, so that what the index knows of them counts.
using FlowingEvents = std::unordered_set<fleet::EndpointId>;
FlowingEvents EndpointsWithEvents(const std::vector<events::PublisherStatus>& publishers);

// `prepared` outlives the result, whose request refers to it. Without `with_ids` the request shows
// no exact ids, which take time to put together: for schedulers none of whose plugins reads them.
MatchedRequest Match(const Prepared& prepared,
                     const std::vector<std::shared_ptr<const fleet::Endpoint>>& endpoints,
                     const index::KvIndex& index, const events::EventsManager* events,
                     const FlowingEvents& flowing, const fleet::InflightLedger& inflight,
                     bool with_ids = true);

std::shared_ptr<const Weights> WeightsOf(const scheduling::Scheduler& scheduler);
// Why the request goes where it goes; takes the decision's scores. Times, attempts and status are
// the caller's.
std::shared_ptr<DecisionRecord> MakeRecord(const Prepared& prepared,
                                           const scheduling::Request& request,
                                           scheduling::Decision& decision,
                                           std::shared_ptr<const Weights> weights);

}  // namespace warmpath::routing
