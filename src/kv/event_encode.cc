#include <algorithm>

#include "codec/msgpack.h"
#include "kv/event_batch.h"

namespace warmpath::kv {

namespace {

using codec::MsgpackWriter;

class Encoder {
 public:
  Encoder(std::string& out, const EncodeOptions& options)
      : out_(out), pack_(out), options_(options) {}

  void Event(const BlockStored& e) {
    if (options_.format == EventFormat::kArray) {
      const int fields = std::clamp(options_.stored_fields, 4, 11);
      pack_.Array(static_cast<uint32_t>(fields) + 1);
      pack_.String("BlockStored");
      Required(e, false);
      if (fields > 4) Number(e.lora_id);
      if (fields > 5) Text(e.medium);
      if (fields > 6) Text(e.lora_name);
      if (fields > 7) Extra(e);
      if (fields > 8) Number(e.group_idx);
      if (fields > 9) Text(e.spec_kind);
      if (fields > 10) Number(e.sliding_window);
      return;
    }
    const bool optionals[] = {!e.extra_keys.empty(),    e.group_idx.has_value(),
                              e.spec_kind.has_value(),  e.sliding_window.has_value(),
                              e.locality.has_value(),   e.ownership.has_value(),
                              e.session_id.has_value(), e.cache_salt.has_value()};
    pack_.Map(8 +
              static_cast<uint32_t>(std::count(std::begin(optionals), std::end(optionals), true)));
    Type("BlockStored");
    Required(e, true);
    pack_.String("lora_id");
    Number(e.lora_id);
    pack_.String("medium");
    Text(e.medium);
    pack_.String("lora_name");
    Text(e.lora_name);
    if (!e.extra_keys.empty()) {
      pack_.String("extra_keys");
      Extra(e);
    }
    Optional("group_idx", e.group_idx);
    Optional("kv_cache_spec_kind", e.spec_kind);
    Optional("kv_cache_spec_sliding_window", e.sliding_window);
    Optional("locality", e.locality);
    Optional("ownership", e.ownership);
    Optional("session_id", e.session_id);
    Optional("cache_salt", e.cache_salt);
  }

  void Event(const BlockRemoved& e) {
    if (options_.format == EventFormat::kArray) {
      const uint32_t fields = options_.stored_fields < 6 ? 1 : options_.stored_fields < 9 ? 2 : 3;
      pack_.Array(fields + 1);
      pack_.String("BlockRemoved");
      Hashes(e.hashes, e.wide);
      if (fields > 1) Text(e.medium);
      if (fields > 2) Number(e.group_idx);
      return;
    }
    pack_.Map(3 + (e.group_idx ? 1 : 0) + (e.locality ? 1 : 0) + (e.ownership ? 1 : 0));
    Type("BlockRemoved");
    pack_.String("block_hashes");
    Hashes(e.hashes, e.wide);
    pack_.String("medium");
    Text(e.medium);
    Optional("group_idx", e.group_idx);
    Optional("locality", e.locality);
    Optional("ownership", e.ownership);
  }

  void Event(const AllBlocksCleared&) {
    if (options_.format == EventFormat::kArray) {
      pack_.Array(1);
      pack_.String("AllBlocksCleared");
    } else {
      pack_.Map(1);
      Type("AllBlocksCleared");
    }
  }

  template <typename T>
  void Number(const std::optional<T>& value) {
    if (value) {
      pack_.Int(static_cast<int64_t>(*value));
    } else {
      pack_.Nil();
    }
  }

 private:
  void Type(std::string_view tag) {
    pack_.String("type");
    pack_.String(tag);
  }
  // The four fields every release has.
  void Required(const BlockStored& e, bool named) {
    if (named) pack_.String("block_hashes");
    Hashes(e.hashes, e.wide);
    if (named) pack_.String("parent_block_hash");
    if (!e.parent) {
      pack_.Nil();
    } else if (!e.wide_parent.empty()) {
      pack_.Binary(e.wide_parent);
    } else {
      pack_.Uint(*e.parent);
    }
    if (named) pack_.String("token_ids");
    pack_.Array(static_cast<uint32_t>(e.tokens.size()));
    for (const TokenId token : e.tokens) pack_.Uint(token);
    if (named) pack_.String("block_size");
    pack_.Uint(e.block_size);
  }
  void Hashes(const std::vector<EngineHash>& hashes, const std::vector<std::string>& wide) {
    pack_.Array(static_cast<uint32_t>(hashes.size()));
    for (size_t i = 0; i < hashes.size(); ++i) {
      if (wide.size() == hashes.size()) {
        pack_.Binary(wide[i]);
      } else {
        pack_.Uint(hashes[i]);
      }
    }
  }
  void Text(const std::optional<std::string>& value) {
    if (value) {
      pack_.String(*value);
    } else {
      pack_.Nil();
    }
  }
  void Extra(const BlockStored& e) {
    if (e.extra_keys.empty()) {
      pack_.Nil();
    } else {
      out_ += e.extra_keys;
    }
  }
  void Optional(std::string_view name, const std::optional<std::string>& value) {
    if (!value) return;
    pack_.String(name);
    pack_.String(*value);
  }
  void Optional(std::string_view name, const std::optional<uint32_t>& value) {
    if (!value) return;
    pack_.String(name);
    pack_.Uint(*value);
  }

  std::string& out_;
  MsgpackWriter pack_;
  const EncodeOptions& options_;
};

}  // namespace

std::string EncodeBatch(const EventBatch& batch, const EncodeOptions& options) {
  std::string out;
  MsgpackWriter pack(out);
  Encoder encoder(out, options);
  const bool map = options.format == EventFormat::kOuterMap;
  const uint32_t elements = batch.publisher_id.empty() ? 3 : 4;
  if (map) {
    pack.Map(elements);
    pack.String("ts");
  } else {
    pack.Array(elements);
  }
  pack.Double(batch.ts);
  if (map) pack.String("events");
  pack.Array(static_cast<uint32_t>(batch.events.size()));
  for (const Event& event : batch.events) {
    std::visit([&](const auto& e) { encoder.Event(e); }, event);
  }
  if (map) pack.String("data_parallel_rank");
  encoder.Number(batch.rank);
  if (elements == 4) {
    if (map) pack.String("publisher_id");
    pack.Binary(batch.publisher_id);
  }
  return out;
}

}  // namespace warmpath::kv
