// A scheduling problem as plain data: routing fills it in, plugins read it, the scheduler returns a
// decision that explains itself.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "fleet/endpoint.h"
#include "fleet/inflight.h"
#include "kv/types.h"
#include "net/http.h"

namespace warmpath::scheduling {

// How much of a request's prompt(s) an endpoint is believed to hold, by one producer. Blocks are
// the producer's own; both counts are summed over the prompts.
struct PrefixMatch {
  uint32_t matched_blocks = 0;
  uint32_t total_blocks = 0;
  uint32_t block_size = 0;  // tokens
};

// One endpoint as a choice for one request. Token counts are summed over the request's prompts.
struct Candidate {
  const fleet::Endpoint* endpoint = nullptr;
  uint16_t rank = 0;            // best data-parallel rank: the one the match below is of
  uint32_t block_size = 0;      // tokens; 0 = not known yet
  uint64_t prompt_tokens = 0;   // 0 when exact tokens could not be had
  uint32_t matched_blocks = 0;  // resident, contiguous from block 0, by events
  uint32_t usable_blocks =
      0;  // of these what the engine can reuse: min(resident, (tokens-1)/block size)
  uint32_t expected_usable_blocks = 0;  // as usable_blocks, counting blocks held speculatively
  uint32_t total_blocks = 0;            // full blocks of the prompt(s)
  uint64_t cached_tokens = 0;           // usable_blocks * block_size
  uint64_t expected_cached_tokens = 0;
  fleet::InflightLoad inflight;  // of the endpoint
  uint64_t resident_blocks = 0;  // of the endpoint, by the index
  uint64_t capacity_blocks = 0;  // 0 = unknown
  bool exact = false;  // exact tokens and this endpoint's events are known: the match above counts
  std::vector<PrefixMatch> produced;  // by PluginContext::slot of the producers (plugin.h)
};

// Lives for one scheduling decision; what its pointers and spans refer to outlives it.
struct Request {
  std::string id;
  std::string model;         // as the client named it
  std::string target_model;  // after rewriting: what the engine is asked for
  uint64_t prompt_tokens = 0;
  bool tokens_known = false;
  // Exact ids where they are known; else pseudo tokens of four bytes (`tokens_estimated`) where a
  // plugin asked for them; else empty.
  std::vector<std::span<const kv::TokenId>> prompts;
  bool tokens_estimated = false;
  uint64_t max_output_tokens = 0;  // the client's limit; 0 = none given
  std::string cache_salt;
  const net::Headers* headers = nullptr;  // of the request, as far as routing reads them; or null
  std::string fairness_id;                // flow id; "" = none given
  int32_t priority = 0;                   // of the request's objective; negative: sheddable
  std::vector<Candidate> candidates;
  // What producers keep for their own Picked, by PluginContext::slot.
  std::vector<std::shared_ptr<const void>> produced;
};

// What plugins add to a request that goes to its pick, and to the answer.
struct PickEffects {
  std::vector<std::pair<std::string, std::string>> request_headers;  // set towards the engine
  std::vector<std::string> remove_request_headers;
  std::vector<std::pair<std::string, std::string>> response_headers;  // set towards the client
  std::string destination;  // host:port to send to instead of the pick's own address; "" = as is
};

struct PluginScore {
  std::string_view plugin;  // plugin name; lives as long as the Scheduler
  double weight = 0;
  std::vector<double> scores;  // per candidate in Request::candidates, clamped to 0..1; NaN where
                               // the candidate was filtered out before
};

// Its names live as long as the Scheduler.
struct Decision {
  std::vector<size_t>
      picked;  // indexes into Request::candidates, best first; empty: nothing left after filters
  std::vector<PluginScore> scores;
  std::vector<double> totals;  // per candidate; NaN where filtered out
  std::vector<std::string_view>
      filtered_by;  // per candidate: name of the filter that dropped it, "" if none
  std::string_view picker;
  std::string_view profile;
  std::vector<std::string> notes;  // what a plugin had to leave out, for people
  PickEffects effects;
};

}  // namespace warmpath::scheduling
