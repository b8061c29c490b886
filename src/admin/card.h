// Capability cards: what is known of each engine and how far its state can be trusted, as JSON.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "admin/tokenizer_info.h"
#include "codec/json.h"
#include "events/manager.h"
#include "fleet/endpoint.h"
#include "fleet/inflight.h"
#include "routing/director.h"

namespace warmpath::admin {

struct CardFacts {
  const fleet::Endpoint& endpoint;
  std::vector<events::PublisherStatus> publishers;  // of this endpoint, one per rank
  uint64_t resident_blocks = 0;
  fleet::InflightLoad inflight;
  routing::PredictionStats predictions;
  std::string tokens_note;  // why there are no exact tokens; "" when there are
  TimePoint now{};
  std::optional<TokenizerInfo> tokenizer{};
};

// {"state","name","source","directory","reason"}; what there is none of is null.
codec::JsonObject ToJson(const TokenizerInfo& info);
codec::JsonObject MakeCard(const CardFacts& facts);

// One sentence on why a request went where it went, for people.
std::string WhyChosen(const routing::DecisionRecord& record);

}  // namespace warmpath::admin
