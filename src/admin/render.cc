#include "admin/render.h"

#include <fmt/format.h>

#include <vector>

#include "fleet/text_table.h"

namespace warmpath::admin {
namespace {

using codec::Json;
using fleet::PrintableText;
using Rows = std::vector<std::vector<std::string>>;

std::string Text(const Json& value, std::string_view key) {
  const auto text = codec::FindString(value, key);
  return text && !text->empty() ? std::string(*text) : "-";
}

std::string Number(const Json& value, std::string_view key) {
  const auto number = codec::FindInt(value, key);
  return number ? std::to_string(*number) : "-";
}

std::string Decimal(const Json& value, std::string_view key, int digits) {
  const auto number = codec::FindDouble(value, key);
  return number ? fmt::format("{:.{}f}", *number, digits) : "-";
}

// `part` of `whole` in percent; "-" when there is nothing to compare.
std::string Percent(const Json* value, std::string_view part, std::string_view whole) {
  if (value == nullptr) return "-";
  const auto a = codec::FindInt(*value, part);
  const auto b = codec::FindInt(*value, whole);
  return a && b && *b > 0
             ? fmt::format("{:.1f}%", 100.0 * static_cast<double>(*a) / static_cast<double>(*b))
             : "-";
}

const codec::JsonArray& List(const Json& value, std::string_view key) {
  static const codec::JsonArray kEmpty;
  const Json* list = codec::Find(value, key);
  return list != nullptr && list->is_array() ? list->get_array() : kEmpty;
}

std::string Models(const Json& card) {
  std::string text;
  for (const Json& model : List(card, "models"))
    text += (text.empty() ? "" : ",") + Text(model, "id");
  return text.empty() ? "-" : text;
}

std::string Connection(const Json* events) {
  if (events == nullptr) return "-";
  if (codec::FindBool(*events, "silent").value_or(false)) return "silent";
  return codec::FindBool(*events, "connected").value_or(false) ? "live" : "off";
}

std::string Sentence(const Json& answer) {
  std::string text;
  if (const auto id = codec::FindString(answer, "request_id"))
    text += fmt::format("request {}: ", *id);
  text += fmt::format("model {}, {} prompt tokens -> {}", Text(answer, "model"),
                      Number(answer, "prompt_tokens"), Text(answer, "chosen"));
  if (const auto why = codec::FindString(answer, "why")) text += fmt::format(" ({})", *why);
  return PrintableText(text) + "\n";
}

// What became of a served request; "" for an explanation.
std::string Delivered(const Json& answer) {
  if (codec::Find(answer, "status") == nullptr) return "";
  std::string text = fmt::format("status {}", Number(answer, "status"));
  if (codec::FindBool(answer, "aborted").value_or(false)) text += " (client went away)";
  text += fmt::format(
      ", {} attempt(s), engine reported {} cached tokens; decided in {} ms, first byte {} ms, "
      "total {} ms",
      Number(answer, "attempts"), Number(answer, "delivered_cached_tokens"),
      Decimal(answer, "decision_ms", 2), Decimal(answer, "first_byte_ms", 1),
      Decimal(answer, "total_ms", 1));
  return text + "\n";
}

}  // namespace

std::string RenderEndpoints(const Json& answer) {
  Rows rows{{"NAME", "URL", "STATE", "MODELS", "BLOCK", "RESIDENT", "CAPACITY", "EVENTS", "SEQ",
             "RECEIVED", "GAPS", "ERRORS", "RUN", "WAIT", "KV", "PREDICTED", "PARITY"}};
  std::string notes;
  for (const Json& card : List(answer, "endpoints")) {
    const Json* events = codec::Find(card, "events");
    const Json* load = codec::Find(card, "load");
    const Json none;
    const Json& event_fields = events == nullptr ? none : *events;
    const Json& load_fields = load == nullptr ? none : *load;
    rows.push_back({Text(card, "name"), Text(card, "url"), Text(card, "state"), Models(card),
                    Number(card, "block_size"), Number(card, "blocks"),
                    Number(card, "capacity_blocks"), Connection(events),
                    Number(event_fields, "last_seq"), Number(event_fields, "received"),
                    Number(event_fields, "gaps"), Number(event_fields, "errors"),
                    Decimal(load_fields, "running", 0), Decimal(load_fields, "waiting", 0),
                    Decimal(load_fields, "kv_usage", 2),
                    Percent(codec::Find(card, "prediction"), "exact", "requests"),
                    Percent(codec::Find(card, "token_parity"), "equal", "checked")});
    if (const auto reason = codec::FindString(card, "reason")) {
      notes += fmt::format("{}: {}\n", PrintableText(Text(card, "name")), PrintableText(*reason));
    }
    for (const Json& note : List(card, "notes")) {
      notes += fmt::format("{}: {}\n", PrintableText(Text(card, "name")),
                           PrintableText(Text(note, "text")));
    }
  }
  std::string text = fleet::AlignColumns(rows, {4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15, 16});
  if (!notes.empty()) text += "\n" + notes;
  return text;
}

std::string RenderExplain(const Json& answer) {
  std::vector<std::string> plugins;
  Rows rows{{"", "ENDPOINT", "URL", "BLOCK", "MATCHED", "CACHED", "EXPECTED"}};
  const Json* weights = codec::Find(answer, "weights");
  if (weights != nullptr && weights->is_object()) {
    for (const auto& weight : weights->get_object()) {
      plugins.emplace_back(weight.key());
      rows[0].push_back(
          fmt::format("{} x{:g}", plugins.back(),
                      weight.value().is_number() ? weight.value().to_number<double>() : 0.0));
    }
  }
  rows[0].push_back("TOTAL");
  rows[0].push_back("FILTERED BY");
  const std::string chosen = Text(answer, "chosen");
  for (const Json& endpoint : List(answer, "endpoints")) {
    const std::string name = Text(endpoint, "name");
    std::vector<std::string> row{name == chosen ? "*" : "",
                                 name,
                                 Text(endpoint, "url"),
                                 Number(endpoint, "block_size"),
                                 Number(endpoint, "matched_blocks"),
                                 Number(endpoint, "cached_tokens"),
                                 Number(endpoint, "expected_cached_tokens")};
    const Json* scores = codec::Find(endpoint, "scores");
    for (const std::string& plugin : plugins) {
      row.push_back(scores == nullptr ? "-" : Decimal(*scores, plugin, 3));
    }
    row.push_back(Decimal(endpoint, "total", 3));
    row.push_back(Text(endpoint, "filtered_by"));
    rows.push_back(std::move(row));
  }
  std::vector<size_t> right{3, 4, 5, 6};
  for (size_t i = 0; i <= plugins.size(); ++i) right.push_back(7 + i);
  std::string text = Sentence(answer) + Delivered(answer);
  if (const auto note = codec::FindString(answer, "tokens_note")) {
    text += "no exact tokens: " + PrintableText(*note) + "\n";
  }
  return text + "\n" + fleet::AlignColumns(rows, right);
}

}  // namespace warmpath::admin
