#include "routing/director.h"

#include "kv/keys.h"
#include "routing/beat.h"
#include "routing/matching.h"
#include "routing/state.h"

namespace warmpath::routing {
namespace {

using EndpointPtr = std::shared_ptr<const fleet::Endpoint>;

constexpr Duration kFlowingInterval = std::chrono::milliseconds(500);
constexpr uint32_t kDefaultBlockSize = 16;  // the engines' own default, where none is known yet

}  // namespace

Director::Director(DirectorDeps deps, DirectorOptions options)
    : options_(options), state_(std::make_shared<DirectorState>(deps, options)) {
  Registry& registry = deps.metrics;
  const Counter admissions = registry.AddCounter(
      "llm_d_epp_kv_cache_index_admissions_total",
      "(Block, endpoint, tier) residencies added to the index through KV events.");
  const Counter evictions =
      registry.AddCounter("llm_d_epp_kv_cache_index_evictions_total",
                          "(Block, endpoint, tier) residencies that left the index.");
  const Gauge blocks =
      registry.AddGauge("warmpath_index_blocks", "Distinct KV blocks in the index.");
  const Gauge bytes = registry.AddGauge("warmpath_index_bytes", "Accounted memory of the index.");
  registry.OnRender([weak = std::weak_ptr(state_), admissions, evictions, blocks, bytes] {
    const auto state = weak.lock();
    if (state == nullptr) return;
    // Read under the lock: of two renderings at once the second must not see older counts.
    MutexLock lock(state->due_mutex);
    const index::IndexStats stats = state->deps.index.stats();
    const uint64_t evicted = stats.evicted_removed + stats.evicted_cleared + stats.evicted_budget;
    admissions.Add(static_cast<double>(stats.admissions - state->admissions_shown));
    evictions.Add(static_cast<double>(evicted - state->evictions_shown));
    state->admissions_shown = stats.admissions;
    state->evictions_shown = evicted;
    blocks.Set(static_cast<double>(stats.blocks));
    bytes.Set(static_cast<double>(stats.bytes));
  });
}

Director::~Director() = default;

void Director::SetEncoder(std::string model, std::shared_ptr<const prompt::Encoder> encoder) {
  state_->SetEncoder({.encoder = std::move(encoder), .model = std::move(model), .note = {}});
}

void Director::SetEncoderAbsent(std::string reason) {
  state_->SetEncoder({.encoder = nullptr, .model = {}, .note = std::move(reason)});
}

std::shared_ptr<const prompt::Encoder> Director::encoder() const {
  return state_->CurrentEncoder()->encoder;
}

std::string Director::encoder_note() const {
  return state_->CurrentEncoder()->note;
}

Result<DecisionRecord> Director::Explain(prompt::Api api, std::string_view body) const {
  WP_TRY(const Prepared prepared, Prepare("", api, body));
  const DirectorDeps& deps = state_->deps;
  const TimePoint begin = deps.clock.Now();
  const std::shared_ptr<const View> view = state_->CurrentView(begin);
  WP_TRY(const auto pool,
         view->PoolOf(prepared.target_model, options_.any_model, {}, prepared.attributes.subset));
  MatchedRequest matched;
  Match(prepared, *view, *pool, state_->view_sources(), deps.scheduler.wants_estimated_tokens(),
        matched);
  const scheduling::Decision decision = deps.scheduler.DryRun(matched.request);
  const auto record = MakeRecord(prepared, *view, *pool, matched.request, decision, state_->names);
  record->decision_ms = ToSeconds(deps.clock.Now() - begin + prepared.prepare_time) * 1e3;
  return record->Read();
}

Result<std::vector<TokenizedView>> Director::Tokenize(prompt::Api api,
                                                      std::string_view body) const {
  const auto loaded = state_->CurrentEncoder();
  if (loaded->encoder == nullptr) return Fail(Code::kUnavailable, loaded->note);
  WP_TRY(const prompt::RequestView view, prompt::ReadRequest(api, body));
  WP_TRY(auto prompts, loaded->encoder->Encode(api, body));
  uint32_t block_size = 0;
  std::string adapter;
  const auto fleet = state_->deps.fleet.snapshot();
  for (const EndpointPtr& endpoint : fleet->endpoints) {
    if (block_size == 0) block_size = BlockSizeOf(*endpoint, state_->deps.events);
    const fleet::ServedModel* served = endpoint->FindModel(view.model);
    if (served != nullptr && served->is_adapter()) adapter = served->id;
  }
  if (block_size == 0) block_size = kDefaultBlockSize;
  const kv::BlockKey root = kv::RootKey(block_size, adapter, view.cache_salt);
  std::vector<TokenizedView> out;
  for (const prompt::EncodedPrompt& prompt : prompts) {
    std::vector<kv::BlockKey> keys = prompt.Keys(root, block_size);
    out.push_back({prompt.text(), prompt.ids(), std::move(keys)});
  }
  return out;
}

std::optional<DecisionRecord> Director::FindRecord(const std::string& request_id) const {
  return state_->records.Find(request_id);
}

std::vector<DecisionRecord> Director::NewestRecords(size_t count) const {
  return state_->records.Newest(count);
}

PredictionStats Director::Predictions(fleet::EndpointId endpoint) const {
  MutexLock lock(state_->prediction_mutex);
  const auto it = state_->predictions.find(endpoint);
  return it == state_->predictions.end() ? PredictionStats{} : it->second;
}

void Director::Tick() {
  const TimePoint now = state_->deps.clock.Now();
  std::vector<index::HoldId> due;
  bool beat = false;
  bool flowing_due = false;
  {
    MutexLock lock(state_->view_mutex);
    flowing_due = now - state_->flowing_at >= kFlowingInterval;
  }
  if (flowing_due) state_->RefreshFlowing();
  {
    MutexLock lock(state_->due_mutex);
    while (!state_->due_holds.empty() && state_->due_holds.front().at <= now) {
      due.push_back(state_->due_holds.front().hold);
      state_->due_holds.pop_front();
    }
    if (options_.beat_interval > Duration(0) && now - state_->last_beat >= options_.beat_interval) {
      state_->last_beat = now;
      beat = true;
    }
  }
  for (const index::HoldId hold : due) state_->deps.index.Release(hold);
  state_->Settle(state_->unseen.Ended(*state_->deps.fleet.snapshot(), now), now);
  if (beat) LogMetricsBeat(state_->deps.index.stats(), lookup_stats());
}

Director::LookupStats Director::lookup_stats() const {
  constexpr auto kRelaxed = std::memory_order_relaxed;
  return {state_->lookups.load(kRelaxed), state_->lookup_hits.load(kRelaxed),
          state_->lookup_count.load(kRelaxed),
          ToSeconds(Duration(state_->lookup_nanos.load(kRelaxed)))};
}

}  // namespace warmpath::routing
