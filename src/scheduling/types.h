// A scheduling problem as plain data: routing fills it in, plugins read it, the scheduler returns a
// decision that explains itself.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "fleet/endpoint.h"
#include "fleet/inflight.h"

namespace warmpath::scheduling {

// One endpoint as a choice for one request. Token counts are summed over the request's prompts.
struct Candidate {
  std::shared_ptr<const fleet::Endpoint> endpoint;
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
};

struct Request {
  std::string id;
  std::string model;  // as the client named it
  uint64_t prompt_tokens = 0;
  bool tokens_known = false;
  std::vector<Candidate> candidates;
};

struct PluginScore {
  std::string plugin;  // plugin name
  double weight = 0;
  std::vector<double> scores;  // per candidate in Request::candidates, clamped to 0..1; NaN where
                               // the candidate was filtered out before
};

struct Decision {
  std::vector<size_t>
      picked;  // indexes into Request::candidates, best first; empty: nothing left after filters
  std::vector<PluginScore> scores;
  std::vector<double> totals;  // per candidate; NaN where filtered out
  std::vector<std::string>
      filtered_by;  // per candidate: name of the filter that dropped it, "" if none
  std::string picker;
  std::string profile;
  std::vector<std::string> notes;  // what a plugin had to leave out, for people
};

}  // namespace warmpath::scheduling
