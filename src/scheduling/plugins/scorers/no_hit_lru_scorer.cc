// no-hit-lru-scorer: spreads prompts nobody holds over the endpoints by how long ago each was given
// such a prompt; a prompt somebody holds scores 0.5 everywhere.
#include <algorithm>
#include <list>
#include <unordered_map>

#include "base/mutex.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/prefix_source.h"

namespace warmpath::scheduling {
namespace {

class NoHitLruScorer final : public Scorer {
 public:
  NoHitLruScorer(const codec::Json& parameters, const PrefixSource& source)
      : source_(source),
        size_(std::max<size_t>(
            1, static_cast<size_t>(std::min(NumberParameter(parameters, "lruSize", 1024), 1e6)))) {}

  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    std::fill(scores.begin(), scores.end(), 0.5);
    for (const size_t i : candidates) {
      if (source_.Of(request.candidates[i]).matched_blocks > 0) return;
    }
    if (candidates.size() < 2) {
      std::fill(scores.begin(), scores.end(), 1.0);
      return;
    }
    std::vector<size_t> order;                      // into `candidates`
    std::vector<std::pair<uint64_t, size_t>> used;  // when, into `candidates`
    {
      MutexLock lock(mutex_);
      for (size_t i = 0; i < candidates.size(); ++i) {
        const auto it = given_.find(request.candidates[candidates[i]].endpoint->id);
        if (it == given_.end()) {
          order.push_back(i);
        } else {
          used.emplace_back(it->second->at, i);
        }
      }
    }
    std::sort(used.begin(), used.end());
    for (const auto& [at, i] : used) order.push_back(i);
    const auto last = static_cast<double>(candidates.size() - 1);
    for (size_t rank = 0; rank < order.size(); ++rank) {
      scores[order[rank]] = 1 - static_cast<double>(rank) / last;
    }
  }

  void Picked(const Request& request, const Candidate& picked, PickEffects&) override {
    for (const Candidate& c : request.candidates) {
      if (source_.Of(c).matched_blocks > 0) return;
    }
    MutexLock lock(mutex_);
    const fleet::EndpointId id = picked.endpoint->id;
    if (const auto it = given_.find(id); it != given_.end()) {
      newest_first_.splice(newest_first_.begin(), newest_first_, it->second);
    } else {
      newest_first_.push_front({id, 0});
      given_[id] = newest_first_.begin();
    }
    newest_first_.front().at = ++clock_;
    if (newest_first_.size() <= size_) return;
    given_.erase(newest_first_.back().endpoint);
    newest_first_.pop_back();
  }

 private:
  struct Given {
    fleet::EndpointId endpoint = 0;
    uint64_t at = 0;  // count of cold prompts then
  };
  const PrefixSource source_;
  const size_t size_;
  mutable Mutex mutex_;
  std::list<Given> newest_first_ GUARDED_BY(mutex_);
  std::unordered_map<fleet::EndpointId, std::list<Given>::iterator> given_ GUARDED_BY(mutex_);
  uint64_t clock_ GUARDED_BY(mutex_) = 0;
};

}  // namespace

std::vector<PluginType> NoHitLruTypes() {
  PluginType type{"no-hit-lru-scorer", Role::kScorer, {}, {}, {}};
  type.parameters = {Integer("lruSize", 0), String("prefixMatchInfoProducerName"),
                     Any("prefixPluginType"), Any("prefixPluginName")};
  type.note = "prefixPluginType and prefixPluginName have no effect, as in llm-d";
  type.references = PrefixSourceReferences;
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    WP_TRY(const PrefixSource source, PrefixSource::Resolve(context));
    return std::make_unique<NoHitLruScorer>(context.parameters, source);
  };
  return {type};
}

}  // namespace warmpath::scheduling
