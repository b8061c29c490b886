#include "admin/card.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "fleet/fleet.h"

namespace warmpath::admin {
namespace {

using codec::Json;
using codec::JsonArray;
using codec::JsonObject;

constexpr std::string_view kEventsFlag =
    "--kv-events-config "
    "'{\"enable_kv_cache_events\":true,\"publisher\":\"zmq\",\"endpoint\":\"tcp://*:5557\"}'";

struct Note {
  std::string code;
  std::string text;
};

// Everything that makes predictions for this engine worse than exact, with what to change.
std::vector<Note> Notes(const CardFacts& facts) {
  std::vector<Note> notes;
  const auto any = [&](auto predicate) {
    return std::any_of(facts.publishers.begin(), facts.publishers.end(), predicate);
  };
  if (any([](const auto& p) { return p.hybrid; })) {
    notes.push_back({"hybrid", "hybrid: over-predicts"});
  }
  if (any([](const auto& p) { return p.silent; })) {
    notes.push_back(
        {"silent",
         fmt::format("gets traffic but publishes no KV events: start the engine with {} and "
                     "prefix caching on (--enable-prefix-caching)",
                     kEventsFlag)});
  } else if (facts.endpoint.health == fleet::Health::kHealthy &&
             !std::all_of(facts.publishers.begin(), facts.publishers.end(),
                          [](const auto& p) { return p.connected; })) {
    notes.push_back(
        {"events",
         fmt::format("KV events are not connected: start the engine with {}, or correct events= "
                     "of its --endpoint",
                     kEventsFlag)});
  } else if (facts.publishers.empty()) {
    notes.push_back(
        {"no-events",
         "no KV events expected from this engine: routed by load and by what was sent there"});
  }
  const uint16_t ranks = facts.endpoint.load.ranks;
  const uint16_t expected = std::max<uint16_t>(1, facts.endpoint.spec.data_parallel);
  if (ranks != 0 && ranks != expected) {
    notes.push_back({"data-parallel",
                     fmt::format("runs {} data-parallel ranks, but its --endpoint says dp={}: set "
                                 "dp={}, else what is predicted may lie on another rank",
                                 ranks, expected, ranks)});
  }
  if (!facts.endpoint.load.prefix_caching) {
    notes.push_back({"prefix-caching",
                     "prefix caching is off: remove --no-enable-prefix-caching from the engine"});
  }
  if (facts.predictions.unseen_answers > 0) {
    notes.push_back({"unseen-answers",
                     "answers go past this router (--bypass-responses, or the proxy's processing "
                     "mode): delivered tokens are not seen, load is released by the engine's "
                     "metrics"});
  }
  if (!facts.tokens_note.empty()) notes.push_back({"tokens", facts.tokens_note});
  const routing::PredictionStats& stats = facts.predictions;
  if (stats.parity_equal < stats.parity_checked) {
    notes.push_back(
        {"token-parity",
         fmt::format("{} of {} prompts had another length in the engine: check --tokenizer and the "
                     "engine's --chat-template",
                     stats.parity_checked - stats.parity_equal, stats.parity_checked)});
  }
  return notes;
}

JsonObject EventsJson(const std::vector<events::PublisherStatus>& publishers) {
  const auto sum = [&](auto member) {
    uint64_t total = 0;
    for (const auto& p : publishers) total += p.*member;
    return total;
  };
  bool connected = !publishers.empty();
  bool silent = false;
  bool hybrid = false;
  int64_t last_seq = -1;
  Duration age{-1};
  JsonArray ranks;
  for (const events::PublisherStatus& p : publishers) {
    connected = connected && p.connected;
    silent = silent || p.silent;
    hybrid = hybrid || p.hybrid;
    last_seq = std::max(last_seq, p.last_seq);
    if (p.last_message_age.count() >= 0 && (age.count() < 0 || p.last_message_age < age)) {
      age = p.last_message_age;
    }
    JsonObject rank;
    rank["rank"] = p.rank;
    rank["address"] = p.address;
    rank["connected"] = p.connected;
    rank["last_seq"] = p.last_seq;
    rank["received"] = p.received;
    rank["gaps"] = p.gaps;
    rank["errors"] = p.errors;
    ranks.push_back(std::move(rank));
  }
  JsonObject out;
  out["connected"] = connected;
  out["last_seq"] = last_seq;
  out["received"] = sum(&events::PublisherStatus::received);
  out["gaps"] = sum(&events::PublisherStatus::gaps);
  out["errors"] = sum(&events::PublisherStatus::errors);
  out["replayed"] = sum(&events::PublisherStatus::replayed);
  out["restarts"] = sum(&events::PublisherStatus::restarts);
  out["skipped"] = sum(&events::PublisherStatus::skipped);
  out["silent"] = silent;
  out["hybrid"] = hybrid;
  out["last_message_age_ms"] = age.count() < 0 ? Json(nullptr) : Json(ToSeconds(age) * 1e3);
  out["ranks"] = std::move(ranks);
  return out;
}

uint32_t BlockSize(const CardFacts& facts) {
  for (const auto& p : facts.publishers) {
    if (p.block_size != 0) return p.block_size;
  }
  return facts.endpoint.load.block_size;
}

JsonObject LoadJson(const fleet::ScrapedLoad& load, TimePoint now) {
  JsonObject out;
  out["running"] = load.running;
  out["waiting"] = load.waiting;
  out["kv_usage"] = load.kv_usage;
  out["age_ms"] = load.at == TimePoint{} ? Json(nullptr) : Json(ToSeconds(now - load.at) * 1e3);
  return out;
}

}  // namespace

JsonObject ToJson(const TokenizerInfo& info) {
  const auto text = [](std::string_view value) {
    return value.empty() ? Json(nullptr) : Json(value);
  };
  return JsonObject{{"state", info.state},
                    {"name", text(info.name)},
                    {"source", text(info.source)},
                    {"directory", text(info.directory)},
                    {"reason", text(info.reason)}};
}

JsonObject MakeCard(const CardFacts& facts) {
  const fleet::Endpoint& endpoint = facts.endpoint;
  JsonObject card;
  card["name"] = endpoint.name();
  card["url"] = endpoint.spec.url.ToString();
  card["state"] = fleet::HealthName(endpoint.health);
  card["reason"] = endpoint.health_reason.empty() ? Json(nullptr) : Json(endpoint.health_reason);
  card["engine_version"] = endpoint.engine_version;
  JsonArray models;
  for (const fleet::ServedModel& model : endpoint.models) {
    JsonObject entry;
    entry["id"] = model.id;
    entry["root"] = model.root;
    entry["parent"] = model.parent.empty() ? Json(nullptr) : Json(model.parent);
    models.push_back(std::move(entry));
  }
  card["models"] = std::move(models);
  card["data_parallel"] = endpoint.spec.data_parallel;
  JsonObject labels;
  for (const auto& [key, value] : endpoint.spec.labels) labels[key] = value;
  card["labels"] = std::move(labels);
  card["blocks"] = facts.resident_blocks;
  card["capacity_blocks"] = endpoint.load.kv_blocks;
  card["block_size"] = BlockSize(facts);
  card["events"] = EventsJson(facts.publishers);
  std::set<std::string> formats;
  bool replay = !endpoint.spec.replay.empty();
  for (const auto& p : facts.publishers) {
    if (!p.format.empty()) formats.insert(p.format);
    replay = replay || p.replay_offered;
  }
  card["formats"] = JsonArray(formats.begin(), formats.end());
  card["replay"] = replay;
  card["prefix_caching"] = endpoint.load.prefix_caching;
  JsonArray notes;
  for (const Note& note : Notes(facts)) {
    notes.push_back(JsonObject{{"code", note.code}, {"text", note.text}});
  }
  card["notes"] = std::move(notes);
  if (facts.tokenizer) card["tokenizer"] = ToJson(*facts.tokenizer);
  const routing::PredictionStats& stats = facts.predictions;
  card["token_parity"] =
      JsonObject{{"checked", stats.parity_checked}, {"equal", stats.parity_equal}};
  card["prediction"] = JsonObject{{"requests", stats.requests},
                                  {"exact", stats.exact},
                                  {"predicted_tokens", stats.predicted_tokens},
                                  {"delivered_tokens", stats.delivered_tokens},
                                  {"unseen_answers", stats.unseen_answers}};
  card["load"] = LoadJson(endpoint.load, facts.now);
  card["inflight"] = JsonObject{{"requests", facts.inflight.requests},
                                {"prefill_requests", facts.inflight.prefill_requests},
                                {"prefill_tokens", facts.inflight.prefill_tokens},
                                {"decode_tokens", facts.inflight.decode_tokens}};
  return card;
}

std::string WhyChosen(const routing::DecisionRecord& record) {
  if (record.chosen.empty()) return "no endpoint could take it";
  if (!record.tokens_note.empty()) return "by load: " + record.tokens_note;
  const routing::EndpointVerdict* chosen = nullptr;
  const routing::EndpointVerdict* warmest = nullptr;
  size_t left = 0;
  for (const routing::EndpointVerdict& verdict : record.endpoints) {
    if (verdict.filtered_by.empty()) ++left;
    if (verdict.name == record.chosen) chosen = &verdict;
    if (warmest == nullptr || verdict.expected_cached_tokens > warmest->expected_cached_tokens) {
      warmest = &verdict;
    }
  }
  if (chosen == nullptr) return "chosen endpoint has left";
  const std::string of =
      fmt::format("{} of {} tokens", chosen->expected_cached_tokens, record.prompt_tokens);
  if (left == 1) return "only endpoint left: " + of + " warm";
  if (warmest->expected_cached_tokens == 0) return "nothing warm anywhere: least load";
  if (chosen->expected_cached_tokens == warmest->expected_cached_tokens) {
    return chosen->cached_tokens < chosen->expected_cached_tokens
               ? fmt::format("warmest: {}, {} of them by a request under way", of,
                             chosen->expected_cached_tokens - chosen->cached_tokens)
               : "warmest: " + of;
  }
  return fmt::format("{} warm; {} has {} but scores lower", of, warmest->name,
                     warmest->expected_cached_tokens);
}

}  // namespace warmpath::admin
