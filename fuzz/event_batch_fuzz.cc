// KV-event batches: what decodes is encoded and decoded again to the same events, and applying it
// to an index never harms.
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "events/applier.h"
#include "index/kv_index.h"
#include "kv/event_batch_reader.h"
#include "kv/extra_keys.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace warmpath;
  if (size > (1u << 16)) return 0;
  const std::string_view payload(reinterpret_cast<const char*>(data), size);
  (void)kv::BatchRank(payload);
  const auto batch = kv::DecodeBatch(payload, {.keep_wide = true});
  if (!batch) return 0;
  const std::string encoded = kv::EncodeBatch(*batch, {kv::EventFormat::kMap, 11});
  const auto again = kv::DecodeBatch(encoded, {.keep_wide = true});
  WP_CHECK(again.has_value());
  WP_CHECK(again->bad_events == 0);
  WP_CHECK(again->events.size() == batch->events.size());
  WP_CHECK(kv::EncodeBatch(*again, {kv::EventFormat::kMap, 11}) == encoded);
  index::KvIndex index(uint64_t{16} << 20);
  events::Applier applier(index, {1, 0},
                          {.max_orphan_blocks = 64, .max_orphan_age = std::chrono::seconds(10)});
  kv::EventBatchReader reader;
  for (int i = 0; i < 2; ++i) {
    const auto view = reader.Read(payload);
    WP_CHECK(view.has_value());
    WP_CHECK(view->events.size() >= batch->events.size());
    applier.Apply(view->events, TimePoint());
  }
  WP_CHECK(applier.orphan_blocks() <= 64);
  applier.Reset();
  WP_CHECK(index.ResidentBlocks({1, 0}) == 0);
  return 0;
}
